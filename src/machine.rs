//! What the system says about the machine, for people who compare figures. Nothing is computed from it.

/// The CPU as its maker calls it, where the system tells (Linux).
pub fn cpu_name() -> Option<String> {
    cpu_name_in(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// x86 has a model name for each CPU; a phone or board has one line for the whole machine instead.
fn cpu_name_in(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        cpuinfo.lines().find_map(|line| {
            let (k, v) = line.split_once(':')?;
            (k.trim() == key && !v.trim().is_empty()).then(|| v.trim().to_string())
        })
    };
    ["model name", "Hardware", "Model"].iter().find_map(|key| value(key))
}

/// Bytes of a memory page, where the system tells (Linux).
pub fn page_size() -> Option<usize> {
    page_size_in(&std::fs::read("/proc/self/auxv").ok()?)
}

/// The vector that the kernel gives a program: pairs of a key and a value.
fn page_size_in(auxv: &[u8]) -> Option<usize> {
    const AT_PAGESZ: usize = 6;
    let (words, _) = auxv.as_chunks::<{ size_of::<usize>() }>();
    let (pairs, _) = words.as_chunks::<2>();
    let found = pairs.iter().find(|[key, _]| usize::from_ne_bytes(*key) == AT_PAGESZ);
    found.map(|[_, value]| usize::from_ne_bytes(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_and_boards_are_found() {
        let server =
            "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9R14\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(cpu_name_in(server).as_deref(), Some("AMD EPYC 9R14"));
        let board = "processor : 0\nCPU part : 0xd0b\n\nHardware :\nModel : Raspberry Pi 5\n";
        assert_eq!(cpu_name_in(board).as_deref(), Some("Raspberry Pi 5"));
        assert_eq!(cpu_name_in("processor : 0\nno colon"), None);
    }

    #[test]
    fn the_page_size_is_the_value_of_its_key() {
        let words = |words: &[usize]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(page_size_in(&words(&[33, 6, 6, 16384, 0, 0])), Some(16384));
        assert_eq!(page_size_in(&words(&[33, 6, 6])), None);
        assert_eq!(page_size_in(&[1, 2, 3]), None);
        if cfg!(target_os = "linux") {
            assert!(page_size().is_some_and(usize::is_power_of_two));
        }
    }
}
