//! A session's state as bytes: what a conversation needs to go on in another process.
//!
//! All numbers are little-endian; counts are u64:
//!
//! ```text
//! "graftses"  version  precision  fingerprint of the model
//! positions before the first token   tokens   logits   layers
//! for each layer: the base's layer that it is, the first position whose rows follow
//! tokens u32   logits f32
//! for each layer, for each position from the first on: its row of K, its row of V (f16 in Fast, f32 in Exact)
//! checksum of all that
//! ```

use std::io::Write;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{AtomicFile, LoadMode, Mapping};
use crate::kernels::Precision;
use crate::kernels::cpu::KvBuf;
use crate::model::backend::Backend;

use super::fingerprint::Digest;
use super::session::Session;

const MAGIC: &[u8; 8] = b"graftses";
const VERSION: u64 = 1;
/// Magic, and seven counts.
const HEADER_BYTES: usize = 8 + 7 * 8;
const CHECKSUM_BYTES: usize = 8;

/// The checked head of a state.
struct Head<'a> {
    before: usize,
    tokens: &'a [[u8; 4]],
    logits: &'a [[u8; 4]],
    /// Of each layer the first position whose rows are there.
    first: Vec<usize>,
    rows: &'a [u8],
}

impl Session {
    /// Writes the tokens, the logits of the last one and the cache, for [`Session::restore_state`]. Nothing is said about
    /// adapters: the cache is what it became under those that were active.
    ///
    /// # Errors
    /// What `out` says.
    pub fn save_state(&self, out: &mut dyn Write) -> Result<()> {
        self.write_state(self.read_logits()?, out)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write the state of the session: {e}")))
    }

    /// The same to the file `path`, which is there whole or not at all. A conversation is its user's own affair: on Unix nobody else can read a
    /// new file (see [`AtomicFile::create_private`]).
    ///
    /// # Errors
    /// What the system, or the device, says.
    pub fn save_state_to(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut file = AtomicFile::create_private(path.as_ref())?;
        self.write_state(self.read_logits()?, &mut file)
            .map_err(|e| file.error(&e))?;
        file.commit()
    }

    /// The same in memory.
    ///
    /// # Errors
    /// There is not enough of it.
    pub fn state_bytes(&self) -> Result<Vec<u8>> {
        let (mut bytes, len) = (Vec::new(), self.state_len());
        bytes.try_reserve_exact(len).map_err(|_| {
            Error::limit("not enough memory for the state of the session").found(format_args!("{len} bytes"))
        })?;
        self.save_state(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes that [`Session::save_state`] writes now.
    pub fn state_len(&self) -> usize {
        let end = self.end();
        let rows: usize = (0..self.active.layers.len()).map(|i| end - self.first_held(i)).sum();
        let head = HEADER_BYTES + 16 * self.active.layers.len() + 4 * (self.tokens.len() + self.logits.len());
        head + rows * self.saved_row_bytes() + CHECKSUM_BYTES
    }

    /// Makes the session what it was when `bytes` were saved, by any session of the same model and precision; context and
    /// chunk may differ. The active adapters stay as they are: for the same continuation make those active that were so
    /// when it was saved. One that stands before the text (a prompt or prefix) or repeats layers must be active already.
    ///
    /// # Errors
    /// [`Mismatch`](ErrorKind::Mismatch) for another model, precision, prompt, layers or vocabulary;
    /// [`Invalid`](ErrorKind::Invalid) for bytes that are not what was saved; [`Unsupported`](ErrorKind::Unsupported) for
    /// those of a later version; [`Limit`](ErrorKind::Limit) where the context is too short. The session is then
    /// unchanged.
    pub fn restore_state(&mut self, bytes: &[u8]) -> Result<()> {
        let head = self.check_state(bytes)?;
        let end = head.before + head.tokens.len();
        let model = self.model.clone();
        let row = self.saved_row_bytes();
        let mut rows = head.rows.chunks_exact(row);
        for (layer, &first) in self.state.cache_mut().iter_mut().zip(&head.first) {
            for (position, rows) in (first..end).zip(&mut rows) {
                layer.load(model.backend(), position, rows);
            }
        }
        model.backend().check()?;
        self.tokens = head.tokens.iter().map(|t| u32::from_le_bytes(*t)).collect();
        self.logits.set(head.logits.iter().map(|l| f32::from_le_bytes(*l)));
        self.before = head.before;
        self.held_from = head.first.iter().copied().max().unwrap_or(0);
        Ok(())
    }

    /// The same from a file.
    ///
    /// # Errors
    /// As [`Session::restore_state`], and what the system says.
    pub fn restore_state_from(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let file = Mapping::open(path.as_ref(), LoadMode::Read)?;
        self.restore_state(file.bytes()).map_err(|e| e.file(path.as_ref()))
    }

    fn write_state(&self, logits: &[f32], out: &mut dyn Write) -> std::io::Result<()> {
        let mut digest = Digest::new();
        let mut put = |bytes: &[u8]| {
            digest.add(bytes);
            out.write_all(bytes)
        };
        let layers = &self.active.layers;
        put(MAGIC)?;
        let counts = [self.before, self.tokens.len(), logits.len(), layers.len()].map(|n| n as u64);
        for n in [VERSION, precision_id(self.precision), self.model.fingerprint()]
            .into_iter()
            .chain(counts)
        {
            put(&n.to_le_bytes())?;
        }
        for (i, &of_base) in layers.iter().enumerate() {
            put(&(of_base as u64).to_le_bytes())?;
            put(&(self.first_held(i) as u64).to_le_bytes())?;
        }
        self.tokens.iter().try_for_each(|t| put(&t.to_le_bytes()))?;
        logits.iter().try_for_each(|l| put(&l.to_le_bytes()))?;
        let mut row = Vec::with_capacity(self.saved_row_bytes());
        for (i, layer) in self.state.cache().iter().enumerate() {
            for position in self.first_held(i)..self.end() {
                row.clear();
                layer.save(self.model.backend(), position, &mut row);
                put(&row)?;
            }
        }
        self.model.backend().check().map_err(std::io::Error::other)?;
        out.write_all(&digest.value().to_le_bytes())
    }

    /// Checks all of `bytes` but the numbers of logits and rows, of which any are harmless.
    fn check_state<'a>(&self, bytes: &'a [u8]) -> Result<Head<'a>> {
        let mut rest = bytes;
        if take(&mut rest, MAGIC.len(), "magic")? != MAGIC {
            return Err(Error::invalid("not the state of a session"));
        }
        let version = count(&mut rest, "version")?;
        if version != VERSION {
            let e = Error::unsupported("this version of a session's state").item("version");
            return Err(e.expected(VERSION).found(version));
        }
        let (content, checksum) = bytes.split_at(bytes.len().saturating_sub(CHECKSUM_BYTES));
        let mut digest = Digest::new();
        digest.add(content);
        if content.len() < HEADER_BYTES || checksum != digest.value().to_le_bytes() {
            return Err(Error::invalid("the state of the session is damaged or cut off").item("checksum"));
        }
        rest = &content[content.len() - (rest.len() - CHECKSUM_BYTES)..];

        let same = |item: &str, found: u64, expected: u64, what: &str| match found == expected {
            true => Ok(()),
            false => Err(Error::mismatch(format!("the state is of {what}"))
                .item(item)
                .expected(expected)
                .found(found)),
        };
        if count(&mut rest, "precision")? != precision_id(self.precision) {
            let e = Error::mismatch("the state is of a session with another precision").item("precision");
            return Err(e.expected(format_args!("{:?}", self.precision)));
        }
        if count(&mut rest, "model")? != self.model.fingerprint() {
            return Err(Error::mismatch("the state is of a session with another model").item("model"));
        }
        let [before, tokens, logits, layers] =
            ["before", "tokens", "logits", "layers"].map(|item| count(&mut rest, item));
        let (before, tokens, logits) = (before?, tokens?, logits?);
        let own = &self.active.layers;
        same("layers", layers?, own.len() as u64, "a session with other layers")?;

        // What stands before the text, as the active adapters have it.
        let prefix = match tokens {
            0 => 0,
            _ => self.active.prefix().map_or(0, |(n, _)| n),
        };
        same(
            "before",
            before,
            prefix as u64,
            "a session with another adapter before the text",
        )?;
        let before = prefix;
        let room = self.context.min(self.capacity.saturating_sub(before));
        let Some(tokens) = usize::try_from(tokens).ok().filter(|n| *n <= room) else {
            let e = Error::limit("the context is too short for the state of the session").item("context");
            return Err(e.expected(format_args!("at least {tokens} tokens")).found(room));
        };
        if logits != 0 {
            same(
                "logits",
                logits,
                self.active.vocab.1 as u64,
                "a session with another vocabulary",
            )?;
        }
        let logits = if logits == 0 { 0 } else { self.active.vocab.1 };

        let end = before + tokens;
        let mut first = Vec::with_capacity(own.len());
        for (i, &of_base) in own.iter().enumerate() {
            let item = format!("layer {i}");
            same(
                &item,
                count(&mut rest, &item)?,
                of_base as u64,
                "a session with other layers",
            )?;
            let from = count(&mut rest, &item)?;
            // The next token reads its window, or everything.
            let most = self.model.spec().windows[of_base].map_or(0, |window| (end + 1).saturating_sub(window));
            let from = usize::try_from(from).ok().filter(|from| *from <= most.min(end));
            first.push(from.ok_or_else(|| Error::invalid("the state lacks positions of the cache").item(item))?);
        }
        let words = |bytes: &'a [u8]| bytes.as_chunks::<4>().0;
        let tokens = words(take(&mut rest, 4 * tokens, "tokens")?);
        let vocab = self.active.vocab.0;
        if let Some(id) = tokens
            .iter()
            .map(|t| u32::from_le_bytes(*t))
            .find(|id| *id as usize >= vocab)
        {
            let e = Error::mismatch("the state has a token outside the vocabulary").item("tokens");
            return Err(e.expected(format_args!("0 to {}", vocab - 1)).found(id));
        }
        let logits = words(take(&mut rest, 4 * logits, "logits")?);
        let rows: usize = first.iter().map(|first| end - first).sum();
        if rest.len() != rows * self.saved_row_bytes() {
            let e = Error::invalid("the state has another length than it says").item("cache");
            return Err(e.expected(rows * self.saved_row_bytes()).found(rest.len()));
        }
        Ok(Head {
            before,
            tokens,
            logits,
            first,
            rows: rest,
        })
    }

    /// Positions of the cache that are written.
    fn end(&self) -> usize {
        self.before + self.tokens.len()
    }

    /// The first position whose rows are in the cache of `layer`.
    fn first_held(&self, layer: usize) -> usize {
        let first = self.state.cache()[layer].first(self.end());
        match self.model.spec().windows[self.active.layers[layer]] {
            Some(_) => first.max(self.held_from),
            None => first,
        }
    }

    /// Bytes of a position in a layer: a row of K and one of V.
    fn saved_row_bytes(&self) -> usize {
        2 * self.model.spec().kv_width() * KvBuf::value_bytes(self.precision)
    }
}

/// The next `len` bytes, of `item`.
fn take<'a>(rest: &mut &'a [u8], len: usize, item: &str) -> Result<&'a [u8]> {
    let (taken, tail) = rest.split_at_checked(len).ok_or_else(|| {
        let e = Error::invalid("the state of the session is cut off").item(item);
        e.expected(format_args!("{len} bytes")).found(rest.len())
    })?;
    *rest = tail;
    Ok(taken)
}

fn count(rest: &mut &[u8], item: &str) -> Result<u64> {
    let bytes = take(rest, 8, item)?;
    Ok(bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

fn precision_id(precision: Precision) -> u64 {
    match precision {
        Precision::Fast => 0,
        Precision::Exact => 1,
        Precision::Fine => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, SessionOptions};

    /// Oracle: the session's own limits. Lies under a right checksum are refused, or harmless.
    #[test]
    fn no_lie_with_a_right_checksum_breaks_a_session() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/");
        for name in ["llama-tied", "gemma3"] {
            let model = Model::open(format!("{folder}{name}/model.gguf")).unwrap();
            let options = SessionOptions {
                context: Some(32),
                chunk: 4,
                ..Default::default()
            };
            let mut session = model.session(&options).unwrap();
            session.eval(&[3; 20]).unwrap();
            let good = session.state_bytes().unwrap();
            let sealed = |mut bytes: Vec<u8>| {
                let mut digest = Digest::new();
                digest.add(&bytes);
                bytes.extend(digest.value().to_le_bytes());
                bytes
            };
            let content = &good[..good.len() - CHECKSUM_BYTES];
            assert_eq!(sealed(content.to_vec()), good);
            let layers = model.spec().n_layers;
            let lies = [
                0,
                1,
                2,
                19,
                20,
                21,
                32,
                33,
                1 << 32,
                1 << 62,
                1 << 63,
                u64::MAX / 4 + 1,
                u64::MAX,
            ];
            for at in (0..HEADER_BYTES + 16 * layers).step_by(8) {
                for lie in lies {
                    let mut bytes = content.to_vec();
                    bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                    let _ = session.restore_state(&sealed(bytes));
                    let room = session.context() - session.position();
                    session
                        .eval(&[5; 3][..room.min(3)])
                        .map(|_| ())
                        .or_else(|e| match room {
                            0 => Ok(()),
                            _ => Err(e),
                        })
                        .unwrap();
                    session.restore_state(&good).unwrap();
                }
            }
            for len in (0..content.len()).step_by(61) {
                assert!(
                    session.restore_state(&sealed(content[..len].to_vec())).is_err(),
                    "{len}"
                );
            }
        }
    }
}
