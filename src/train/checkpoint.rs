//! A training on disk: all that a resumed one needs to go on bit for bit. One file, which is there whole or not at all.
//!
//! `GRAFTCKP`, version (u32), length of the header (u64), the header (JSON), then of each tensor its numbers in f32 and what the optimizer
//! keeps of it, then a digest of all before it (u64). Little-endian.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::optim::Kept;
use super::parameters::Parameters;
use super::trainer::{TrainOptions, Trainer};
use crate::error::{Error, Result};
use crate::format::AtomicFile;
use crate::quant::f32::append;
use crate::runtime::{Digest, Model};

const MAGIC: &[u8; 8] = b"GRAFTCKP";
const VERSION: u32 = 1;
/// Bytes of a digest.
const DIGEST: usize = 8;

#[derive(Serialize, Deserialize)]
struct Header {
    /// What made it.
    graft: String,
    /// [`TrainOptions::facts`].
    options: Map<String, Value>,
    /// Of the model.
    fingerprint: u64,
    step: usize,
    skipped: usize,
    config: Map<String, Value>,
    tensors: Vec<Entry>,
    /// The caller's.
    data: Value,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    shape: Vec<usize>,
    trained: bool,
    /// The optimizer's steps; `None` before the first.
    steps: Option<u64>,
}

/// Writes what goes by, and digests it.
struct Digested<W> {
    to: W,
    digest: Digest,
    /// What is no whole word yet.
    rest: Vec<u8>,
}

impl<W: Write> Digested<W> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.to.write_all(bytes)?;
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / 4 * 4;
        self.digest.add(&self.rest[..whole]);
        self.rest.drain(..whole);
        Ok(())
    }
}

impl Trainer {
    /// Writes a checkpoint; `data` is kept for who resumes: where in the data the next step begins.
    ///
    /// # Errors
    /// What the system refuses; the old file, if there is one, is then as it was.
    pub fn save_checkpoint(&self, path: &Path, data: &Value) -> Result<()> {
        let parameters = self.learner().parameters();
        let entries = parameters.all().iter().zip(self.kept()).map(|(p, kept)| Entry {
            key: p.key.clone(),
            shape: p.shape.clone(),
            trained: p.trained,
            steps: kept.as_ref().map(|k| k.steps),
        });
        let header = Header {
            graft: env!("CARGO_PKG_VERSION").into(),
            options: self.options().facts(),
            fingerprint: self.learner().model().fingerprint(),
            step: self.steps_done(),
            skipped: self.steps_skipped(),
            config: parameters.config().clone(),
            tensors: entries.collect(),
            data: data.clone(),
        };
        let header = serde_json::to_vec(&header).map_err(|e| Error::internal(e.to_string()).file(path))?;
        let mut file = AtomicFile::create(path)?;
        let written = (|| {
            let mut out = Digested {
                to: &mut file,
                digest: Digest::new(),
                rest: Vec::new(),
            };
            out.put(MAGIC)?;
            out.put(&VERSION.to_le_bytes())?;
            out.put(&(header.len() as u64).to_le_bytes())?;
            out.put(&header)?;
            let mut bytes = Vec::new();
            for (p, kept) in parameters.all().iter().zip(self.kept()) {
                bytes.clear();
                append(&p.values, &mut bytes);
                if let Some(kept) = kept {
                    kept.means.iter().for_each(|mean| mean.save(&mut bytes));
                }
                out.put(&bytes)?;
            }
            let rest = std::mem::take(&mut out.rest);
            out.digest.add(&rest);
            let digest = out.digest.value();
            file.write_all(&digest.to_le_bytes())
        })();
        written.map_err(|e| file.error(&e))?;
        file.commit()
    }

    /// Goes on from a checkpoint of the same model with the same options, but for what is kept in memory; returns the `data` that was saved
    /// too.
    ///
    /// # Errors
    /// A file that is missing, damaged, of another version, another model or other options, each by name.
    pub fn resume(model: &Model, options: TrainOptions, path: &Path) -> Result<(Self, Value)> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "cannot read", &e))?;
        Self::from_bytes(model, options, &bytes).map_err(|e| e.file(path))
    }

    fn from_bytes(model: &Model, options: TrainOptions, bytes: &[u8]) -> Result<(Self, Value)> {
        let damaged = |what: &str| Error::invalid(format!("the checkpoint is damaged: {what}"));
        let Some((body, digest)) = bytes.split_last_chunk::<DIGEST>() else {
            return Err(damaged("it is too short"));
        };
        let Some(rest) = body.strip_prefix(MAGIC) else {
            return Err(Error::invalid("this is no checkpoint of graft train"));
        };
        let Some((version, rest)) = rest.split_first_chunk() else {
            return Err(damaged("it is too short"));
        };
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            let e = Error::unsupported("checkpoint of another version");
            return Err(e.expected(VERSION).found(version));
        }
        let mut all = Digest::new();
        all.add(body);
        if all.value() != u64::from_le_bytes(*digest) {
            return Err(damaged("its digest does not fit"));
        }
        let header = rest.split_first_chunk().and_then(|(len, rest)| {
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            rest.split_at_checked(len)
        });
        let Some((header, mut rest)) = header else {
            return Err(damaged("it is too short"));
        };
        let header: Header = serde_json::from_slice(header).map_err(|e| damaged(&e.to_string()))?;
        if header.fingerprint != model.fingerprint() {
            return Err(Error::mismatch("the checkpoint is of another model"));
        }
        let mut options = options;
        // What is kept in memory is as it was: the numbers depend on it in their last digits.
        if let Some(keep) = header.options.get("keep_attention").and_then(Value::as_bool) {
            options.keep_attention = keep;
        }
        for (key, ours) in options.facts() {
            let theirs = header.options.get(&key).unwrap_or(&Value::Null);
            if *theirs != ours {
                let e = Error::mismatch("the checkpoint is of a training with another option").item(key);
                return Err(e.expected(theirs).found(ours));
            }
        }
        let mut tensors = Vec::new();
        let mut kept = Vec::new();
        for entry in &header.tensors {
            let n = entry.shape.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim));
            let own = n.and_then(|n| n.checked_mul(4)).and_then(|n| rest.split_at_checked(n));
            let Some((own, behind)) = own else {
                return Err(damaged("it is too short").item(&entry.key));
            };
            rest = behind;
            let values: Vec<f32> = own.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            kept.push(match entry.steps {
                None => None,
                Some(steps) => {
                    let mut new = Kept::new(&options.optimizer, values.len());
                    new.steps = steps;
                    for mean in &mut new.means {
                        mean.load(&mut rest)
                            .ok_or_else(|| damaged("it is too short").item(&entry.key))?;
                    }
                    Some(new)
                }
            });
            tensors.push((entry.key.clone(), entry.shape.clone(), values));
        }
        if !rest.is_empty() {
            return Err(damaged("it is too long"));
        }
        let parameters = Parameters::new(header.config, tensors)?;
        let trainer = Trainer::at(model, parameters, options, kept, header.step, header.skipped)?;
        Ok((trainer, header.data))
    }
}
