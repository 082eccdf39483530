//! The folder that is written: checkpoints and a log on the way, then the adapter, its card and the loss curve.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use graft::format::atomic::remove_left;
use graft::train::{TrainOptions, Trainer};
use graft::{Error, Model, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::Plan;
use super::picture::{self, Curve};
use crate::args::TrainArgs;
use crate::output::{Done, say, write_file};

const CHECKPOINT: &str = "checkpoint.graft";
/// The one before, in case the last is damaged.
const PREVIOUS: &str = "checkpoint.previous.graft";
const LOG: &str = "training_log.jsonl";
const PICTURE: &str = "loss.svg";
const CARD: &str = "README.md";
const ADAPTER: &str = "adapter_config.json";

/// A line of the log: a step, or a measurement after it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Logged {
    pub step: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// The folder.
pub struct Folder {
    path: PathBuf,
    resume: bool,
    /// The last checkpoint is damaged: it must not take the place of the one before.
    damaged: bool,
    log: Option<File>,
    /// Losses of the log's steps.
    losses: Curve,
    /// What was measured on the evaluation data: after which step, and the loss.
    measured: Vec<(usize, f64)>,
}

impl Folder {
    /// The folder at `path`, which must not hold an adapter or a training already, unless that is to go on.
    pub fn at(path: &Path, resume: bool) -> Result<Self> {
        let there = [ADAPTER, CHECKPOINT, PREVIOUS].iter().find(|f| path.join(f).exists());
        if let (false, Some(file)) = (resume, there) {
            let e = Error::usage("the folder holds an adapter or a training already").file(path);
            return Err(e.expected("another folder, or --resume").found(*file));
        }
        fs::create_dir_all(path).map_err(|e| Error::io(path, "cannot make the folder", &e))?;
        if resume {
            // One that is killed again and again would fill the disk with beginnings of checkpoints.
            remove_left(path)?;
        }
        Ok(Folder {
            path: path.into(),
            resume,
            damaged: false,
            log: None,
            losses: Curve::default(),
            measured: Vec::new(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The training to go on with, and its place in the data: the last checkpoint, or the one before if that is damaged.
    pub fn checkpoint(&mut self, model: &Model, options: &TrainOptions) -> Result<Option<(Trainer, Value)>> {
        if !self.resume {
            return Ok(None);
        }
        let paths = [CHECKPOINT, PREVIOUS].map(|name| self.path.join(name));
        let mut there = paths.iter().filter(|p| p.exists());
        let Some(first) = there.next() else {
            say(&format!("{}: no checkpoint; beginning anew", self.path.display()));
            return Ok(None);
        };
        match (Trainer::resume(model, options.clone(), first), there.next()) {
            (Ok(found), _) => Ok(Some(found)),
            (Err(e), Some(previous)) if e.kind() == graft::ErrorKind::Invalid => {
                say(&format!("{e}; going on with the one before"));
                self.damaged = true;
                Trainer::resume(model, options.clone(), previous).map(Some)
            }
            (Err(e), _) => Err(e),
        }
    }

    /// Writes a checkpoint; the last one becomes the one before.
    pub fn save_checkpoint(&mut self, trainer: &Trainer, place: &Value) -> Result<()> {
        let (path, previous) = (self.path.join(CHECKPOINT), self.path.join(PREVIOUS));
        if path.exists() && !self.damaged {
            fs::rename(&path, &previous).map_err(|e| Error::io(&previous, "cannot write", &e))?;
        }
        trainer.save_checkpoint(&path, place)?;
        self.damaged = false;
        Ok(())
    }

    /// Opens the log behind step `done`: what came after is done again.
    pub fn begin_log(&mut self, done: usize) -> Result<()> {
        let path = self.path.join(LOG);
        let io = |e| Error::io(&path, "cannot write", &e);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let mut file = file.map_err(io)?;
        let mut end = 0;
        let mut line = String::new();
        let mut reader = BufReader::new(&file);
        while done > 0 && reader.read_line(&mut line).map_err(io)? > 0 {
            match serde_json::from_str::<Logged>(&line) {
                Ok(logged) if logged.step <= done && line.ends_with('\n') => {
                    end += line.len() as u64;
                    self.note(&logged);
                }
                _ => break,
            }
            line.clear();
        }
        file.set_len(end)
            .and_then(|()| file.seek(SeekFrom::Start(end)))
            .map_err(io)?;
        self.log = Some(file);
        Ok(())
    }

    /// A line more.
    pub fn log(&mut self, logged: &Logged) -> Result<()> {
        let path = self.path.join(LOG);
        let mut text = serde_json::to_string(logged).map_err(|e| Error::internal(e.to_string()))?;
        text.push('\n');
        if let Some(file) = &mut self.log {
            file.write_all(text.as_bytes())
                .map_err(|e| Error::io(&path, "cannot write", &e))?;
        }
        self.note(logged);
        Ok(())
    }

    fn note(&mut self, logged: &Logged) {
        if let Some(loss) = logged.loss {
            self.losses.push(logged.step, loss);
        }
        self.measured.extend(logged.eval_loss.map(|loss| (logged.step, loss)));
    }

    /// What was measured on the evaluation data so far: after which step, and the loss.
    pub fn measured(&self) -> &[(usize, f64)] {
        &self.measured
    }

    /// The mean loss of the last tenth of the steps.
    pub fn last_loss(&self) -> Option<f64> {
        self.losses.last()
    }

    /// Card and curve; the checkpoints are no longer needed.
    pub fn finish(&self, args: &TrainArgs, plan: &Plan, trainer: &Trainer) -> Done {
        let picture = picture::loss_curve(&self.losses, &self.measured)?;
        for (name, text) in [(PICTURE, picture), (CARD, self.card(args, plan, trainer))] {
            write_file(&self.path.join(name), &text)?;
        }
        for name in [CHECKPOINT, PREVIOUS] {
            let _ = fs::remove_file(self.path.join(name));
        }
        Ok(())
    }

    fn card(&self, args: &TrainArgs, plan: &Plan, trainer: &Trainer) -> String {
        let o = trainer.options();
        let name = |p: &Path| p.file_name().map_or(String::new(), |n| n.display().to_string());
        let base = trainer.learner().parameters().config().get("base_model_name_or_path");
        let base = base.and_then(Value::as_str).unwrap_or_default();
        let mut rows = vec![
            ("method", plan.method().to_owned()),
            ("base model", format!("{} {base}", name(&args.model))),
            ("data", name(&args.data)),
            ("steps", trainer.steps_done().to_string()),
            (
                "learning rate",
                format!("{} ({}, warm-up {})", o.lr, o.schedule.name(), o.warmup),
            ),
            ("optimizer", format!("{:?}", o.optimizer)),
            ("tokens of an example at most", o.seq.to_string()),
            ("precision", format!("{:?}", o.precision).to_lowercase()),
            ("steps without a finite loss", trainer.steps_skipped().to_string()),
        ];
        if let Some(loss) = self.last_loss() {
            rows.push(("loss at the end", format!("{loss:.4}")));
        }
        if let Some((_, loss)) = self.measured.last() {
            rows.push(("loss on the evaluation data", format!("{loss:.4}")));
        }
        let rows: String = rows.iter().map(|(k, v)| format!("| {k} | {v} |\n")).collect();
        format!(
            "---\nlibrary_name: peft\n---\n\n# Adapter trained by Graft {}\n\n| | |\n|---|---|\n{rows}\n![loss](loss.svg)\n",
            env!("CARGO_PKG_VERSION")
        )
    }
}
