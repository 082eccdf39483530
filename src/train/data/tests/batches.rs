//! Examples put together, and going on from any place.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn numbered(rows: usize) -> File {
    // Of lengths that differ, each text once; now and then a line that is blank, bad, or has nothing to learn.
    let line = |i: usize| match i % 11 {
        3 => String::new(),
        5 => "{\"text\": 1}".into(),
        7 => json!({"prompt": "the fox ".repeat(30), "completion": "no"}).to_string(),
        n => json!({"text": format!("{i} {}", "the fox ".repeat(n + i % 3))}).to_string(),
    };
    file("data.jsonl", (0..rows).map(line).collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_row_comes_once_an_epoch_in_every_arrangement() {
    let file = numbered(300);
    let options = |shuffle| DataOptions {
        skip_bad: true,
        shuffle,
        seed: 5,
        ..in_order(32)
    };
    let plain = Data::open(&file.path, &LLAMA, &options(false)).unwrap();
    let sorted = |all: &[Vec<Example>]| {
        let mut all: Vec<_> = all.iter().flatten().map(|e| decode(e).0).collect();
        all.sort();
        all
    };
    let all = epoch(&mut plain.batches(&BatchOptions::default()).unwrap());
    assert_eq!(all.len(), (0..300).filter(|i| ![3, 5, 7].contains(&(i % 11))).count());
    let mut orders = Vec::new();
    for shuffle in [false, true] {
        for most in [4, 1 << 20] {
            let data = with_places(&file, &LLAMA, &options(shuffle), most);
            for arrangement in [Arrangement::Plain, Arrangement::ByLength, Arrangement::Packed] {
                let mut batches = data.batches(&BatchOptions { batch: 3, arrangement }).unwrap();
                for _ in 0..2 {
                    let found = epoch(&mut batches);
                    assert_eq!(sorted(&found), sorted(&all));
                    match arrangement {
                        Arrangement::Packed => {
                            let tokens = |b: &Vec<Example>| b.iter().map(|e| e.tokens().len()).sum::<usize>();
                            assert!(found.iter().all(|b| tokens(b) <= 32));
                            assert!(found.len() < all.len() * 3 / 4, "packs hold more than one");
                        }
                        _ => assert!(found.iter().rev().skip(1).all(|b| b.len() <= 3)),
                    }
                    if arrangement == Arrangement::ByLength {
                        // Within 64 batches lengths fall or stay, from batch to batch of the sorted ones: little is uneven in one.
                        let spread = |b: &Vec<Example>| b[0].tokens().len() - b[b.len() - 1].tokens().len();
                        assert!(found.iter().map(spread).sum::<usize>() < found.len());
                    }
                    orders.push((shuffle, found));
                }
            }
        }
    }
    // Shuffled epochs all differ; those in order are the same, whatever the index has room for.
    for (i, (shuffle, a)) in orders.iter().enumerate() {
        for (j, (other, b)) in orders.iter().enumerate().skip(i + 1) {
            let same_order = !shuffle && !other && i % 6 / 2 == j % 6 / 2;
            assert_eq!(a == b, same_order, "{i} {j}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Oracle: the order of a run that was never stopped. The place goes through JSON, as a checkpoint's does.
    #[test]
    fn any_place_can_be_gone_on_from(
        rows in 8usize..120,
        batch in 1usize..5,
        arrangement in prop_oneof![Just(Arrangement::Plain), Just(Arrangement::ByLength), Just(Arrangement::Packed)],
        shuffle in any::<bool>(),
        most in 2usize..40,
        stop in 0usize..250,
    ) {
        let file = numbered(rows);
        let options = DataOptions { skip_bad: true, shuffle, seed: rows as u64, ..in_order(24) };
        let options_of_batches = BatchOptions { batch, arrangement };
        let data = with_places(&file, &LLAMA, &options, most);
        let mut whole = data.batches(&options_of_batches).unwrap();
        for _ in 0..stop {
            whole.next().unwrap();
        }
        let place = serde_json::to_string(&whole.state()).unwrap();
        let place: Place = serde_json::from_str(&place).unwrap();
        prop_assert_eq!(place.epoch(), whole.epoch());
        let again = with_places(&file, &LLAMA, &options, most);
        let mut on = again.batches(&options_of_batches).unwrap();
        on.resume(&place).unwrap();
        for _ in 0..40 {
            prop_assert_eq!(on.state(), whole.state());
            prop_assert_eq!(on.next().unwrap(), whole.next().unwrap());
            prop_assert_eq!(on.counts(), whole.counts());
        }
    }
}

#[test]
fn a_place_in_other_data_is_refused() {
    let (file, other) = (numbered(50), numbered(51));
    let options = DataOptions {
        skip_bad: true,
        ..in_order(32)
    };
    let of_batches = BatchOptions {
        batch: 2,
        arrangement: Arrangement::ByLength,
    };
    let batches = |file: &File, options: &DataOptions, of_batches: &BatchOptions| {
        Data::open(&file.path, &LLAMA, options)
            .unwrap()
            .batches(of_batches)
            .unwrap()
    };
    let mut from = batches(&file, &options, &of_batches);
    from.next().unwrap();
    let place = from.state();
    batches(&file, &options, &of_batches).resume(&place).unwrap();
    let seed = DataOptions {
        seed: 1,
        ..options.clone()
    };
    let seq = DataOptions {
        seq: 31,
        ..options.clone()
    };
    let larger = BatchOptions { batch: 3, ..of_batches };
    for mut batches in [
        batches(&other, &options, &of_batches),
        batches(&file, &seed, &of_batches),
        batches(&file, &seq, &of_batches),
        batches(&file, &options, &larger),
    ] {
        assert_eq!(batches.resume(&place).unwrap_err().kind(), ErrorKind::Mismatch);
    }
    // A place that cannot be: the checkpoint is not to be trusted.
    for (field, value) in [("position", u64::MAX), ("batch", 99), ("batch", u64::MAX)] {
        let mut json = serde_json::to_value(&place).unwrap();
        json[field] = value.into();
        let place: Place = serde_json::from_value(json).unwrap();
        assert_eq!(
            from.resume(&place).unwrap_err().kind(),
            ErrorKind::Mismatch,
            "{field} {value}"
        );
    }
    let mut json = serde_json::to_value(&place).unwrap();
    json["epoch"] = u64::MAX.into();
    from.resume(&serde_json::from_value(json).unwrap()).unwrap();
    (0..100).for_each(|_| drop(from.next().unwrap()));
}

/// Pieces of lines, good and bad, that are put together anyhow.
fn scraps() -> impl Strategy<Value = Vec<u8>> {
    let scrap = prop_oneof![
        Just(b"{\"text\": \"the fox\"}\n".to_vec()),
        Just(b"{\"prompt\": \"the\", \"completion\": \" fox\"}\n".to_vec()),
        Just(
            b"{\"messages\": [{\"role\": \"user\"}, {\"role\": \"assistant\", \"content\": \"<|im_end|>\"}]}\n"
                .to_vec()
        ),
        Just(b"{\"messages\": [".to_vec()),
        Just(b"{\"role\": \"assistant\"},".to_vec()),
        Just(b"\"text\":".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\xef\xbb\xbf".to_vec()),
        Just("🦊".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..9),
    ];
    prop::collection::vec(scrap, 0..24).prop_map(|scraps| scraps.concat())
}

proptest! {
    /// Any bytes are refused with an error, or read to the end, the same each time.
    #[test]
    fn any_file_is_read_or_refused(bytes in scraps(), plain in any::<bool>(), seq in 2usize..40, most in 2usize..9) {
        let file = file(if plain { "data.txt" } else { "data.jsonl" }, &bytes);
        let options = DataOptions { skip_bad: true, ..in_order(seq) };
        let open = || {
            let go_on = &mut |_| ControlFlow::Continue(());
            Data::look_through(&file.path, &LLAMA, &options, Index::with(most), go_on)
        };
        let Ok(data) = open() else { return Ok(()) };
        let mut batches = data.batches(&BatchOptions::default()).unwrap();
        let mut read = || {
            let mut all = Vec::new();
            while let Some(batch) = batches.next()? {
                all.extend(batch);
            }
            Ok::<_, Error>(all)
        };
        let Ok(all) = read() else { return Ok(()) };
        prop_assert!(!all.is_empty() && all.len() as u64 <= data.len());
        prop_assert!(all.iter().all(|e| e.targets() > 0 && e.tokens().len() <= seq));
        prop_assert_eq!(read().unwrap(), all);
    }
}
