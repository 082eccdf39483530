//! A loaded model: the file, the facts, the weights on the device, the tokenizer. Immutable and shared.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::adapter::export::{self, Exported};
use crate::adapter::to_lora::{self, Kept, RankRule};
use crate::adapter::{Active, AdapterFile, AdapterOptions, Attached, Each, gguf};
use crate::error::{Error, Result};
use crate::format::{Gguf, LoadMode};
use crate::kernels::{Cpu, Precision};
use crate::model::spec::Spec;
use crate::model::weights::Weights;
use crate::model::{Device, DeviceChoice, arch_of, device};
use crate::pool::Executor;
use crate::quant::BlockFormat;
use crate::tokenizer::{ChatTemplate, EncodeOptions, Message, Tokenizer};

use super::session::{Session, SessionOptions};
use super::{fingerprint, plan};

/// Is told the share of the work that is done, 0 to 1.
pub type Progress = Box<dyn Fn(f32)>;

/// How to load a model.
#[derive(Default)]
pub struct LoadOptions {
    /// Map the file or read it.
    pub mode: LoadMode,
    /// Threads of the model's own team; `None` for one a physical core. They end with the model.
    pub threads: Option<usize>,
    /// Threads to use instead of an own team: a [`Team`](crate::pool::Team) that several models share, or the application's.
    pub executor: Option<Arc<dyn Executor>>,
    /// What is to run the model.
    pub device: DeviceChoice,
    /// How many layers are on the GPU, if there is one: the last ones, and with them the head. `None` for as many as fit into its free memory,
    /// with a cache of 4096 positions. The rest runs on the CPU.
    pub gpu_layers: Option<usize>,
    /// That the model is to be trained on, on sequences of so many tokens and in which precision: without `gpu_layers` the layers on the GPU
    /// are then as many as fit with what training needs of its memory.
    pub training: Option<(usize, Precision)>,
    /// A `tokenizer.json` to use instead of the tokenizer in the model file.
    pub tokenizer: Option<PathBuf>,
    /// Called while loading.
    pub progress: Option<Progress>,
}

/// A model in memory. Cloning shares it; threads may use it at the same time.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    gguf: Arc<Gguf>,
    spec: Spec,
    backend: Device,
    device: Option<String>,
    weights: Weights<Device>,
    tokenizer_file: Option<PathBuf>,
    tokenizer: OnceLock<Tokenizer>,
    chat_template: OnceLock<Option<ChatTemplate>>,
    fingerprint: OnceLock<u64>,
}

impl Model {
    /// Maps the GGUF file at `path` (any part of a split one) with default options.
    ///
    /// # Errors
    /// As [`Model::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &LoadOptions::default())
    }

    /// Opens the GGUF file at `path`.
    ///
    /// # Errors
    /// A file that is missing, broken, of an architecture that Graft does not run, or whose tensors are not those of its
    /// architecture; each names file, tensor or key, what was expected and what was found.
    pub fn open_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        Self::of_gguf(Gguf::open(path.as_ref(), options.mode)?, options)
    }

    /// Opens the GGUF file that lies in `file` from byte `offset` on and has `len` bytes, or all that follow: what an
    /// app gets of its bundle. It is mapped or read as [`LoadOptions::mode`] says; any offset will do.
    ///
    /// # Errors
    /// As [`Model::open_with`]; a range that does not lie in the file; a part of a split model. The file is called
    /// "the opened file".
    pub fn open_file(file: File, offset: u64, len: Option<u64>, options: &LoadOptions) -> Result<Self> {
        Self::of_gguf(Gguf::of_file(file, offset, len, options.mode)?, options)
    }

    /// Opens a GGUF file that is in memory. The bytes are kept, not copied, and dropped after the last clone of the
    /// model and everything made of it; `as_ref` must give the same ones at each call. [`LoadOptions::mode`] says
    /// nothing here.
    ///
    /// # Errors
    /// As [`Model::open_with`]; a part of a split model. The file is called "memory".
    pub fn open_memory(bytes: impl AsRef<[u8]> + Send + Sync + 'static, options: &LoadOptions) -> Result<Self> {
        Self::of_gguf(Gguf::from_bytes(bytes)?, options)
    }

    /// The model in an opened file.
    ///
    /// # Errors
    /// As [`Model::open_with`].
    pub fn of_gguf(gguf_file: Gguf, options: &LoadOptions) -> Result<Self> {
        if gguf::is_adapter(&gguf_file)? {
            let e = Error::invalid("this is an adapter, not a model").file(gguf_file.path());
            return Err(e.expected("a model, with the adapter put on it (-a FILE)"));
        }
        let spec = Spec::read(arch_of(&gguf_file)?, &gguf_file)?;
        let cpu = match &options.executor {
            Some(executor) => Cpu::on(executor.clone())?,
            None => Cpu::new(options.threads)?,
        };
        let (backend, device) = device::open(
            cpu,
            options.device,
            options.gpu_layers,
            options.training,
            &spec,
            &gguf_file,
        )?;
        let progress: &dyn Fn(f32) = match &options.progress {
            Some(p) => p,
            None => &|_| (),
        };
        let weights = Weights::load(&backend, &spec, &gguf_file, progress)?;
        Ok(Model(Arc::new(Inner {
            gguf: Arc::new(gguf_file),
            spec,
            backend,
            device,
            weights,
            tokenizer_file: options.tokenizer.clone(),
            tokenizer: OnceLock::new(),
            chat_template: OnceLock::new(),
            fingerprint: OnceLock::new(),
        })))
    }

    /// The facts.
    pub fn spec(&self) -> &Spec {
        &self.0.spec
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.0.gguf
    }

    /// The device.
    pub(crate) fn backend(&self) -> &Device {
        &self.0.backend
    }

    /// What there is to say about where the model runs: its layers on a GPU, or why [`DeviceChoice::Auto`] took none. Nothing on the CPU
    /// alone.
    pub fn device(&self) -> Option<&str> {
        self.0.device.as_deref()
    }

    /// How many of the model's layers, the last ones, are on a GPU.
    pub fn gpu_layers(&self) -> usize {
        device::gpu(&self.0.backend).map_or(0, |(_, layers)| layers)
    }

    /// The index of the GPU that layers are on.
    pub fn gpu(&self) -> Option<usize> {
        device::gpu(&self.0.backend).map(|(index, _)| index)
    }

    /// Operations that so far ran on the CPU, with copies, though the layers that they belong to are on a GPU: no kernel does them for such
    /// values. They are slow, and their results the same.
    pub fn fallen(&self) -> Vec<&'static str> {
        device::fallen(&self.0.backend)
    }

    /// The CPU: the threads that the model has, and how long operations take on it.
    pub fn cpu(&self) -> &Cpu {
        device::cpu(&self.0.backend)
    }

    /// The weights on the device.
    pub(crate) fn weights(&self) -> &Weights<Device> {
        &self.0.weights
    }

    /// What tells this model's numbers from another's, made at the first call.
    pub(crate) fn fingerprint(&self) -> u64 {
        *self.0.fingerprint.get_or_init(|| fingerprint::of(self))
    }

    /// Whether the output head is the embedding.
    pub fn tied_head(&self) -> bool {
        self.0.weights.tied
    }

    /// The tokenizer in the file, or that of [`LoadOptions::tokenizer`], built at the first call.
    ///
    /// # Errors
    /// The file has none, a broken one, one that Graft does not know, or one with more tokens than the model.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(t) = self.0.tokenizer.get() {
            return Ok(t);
        }
        let (t, file, item) = match &self.0.tokenizer_file {
            Some(file) => (Tokenizer::from_file(file), file.as_path(), "vocabulary"),
            None => (
                Tokenizer::from_gguf(self.gguf().metadata()),
                self.gguf().path(),
                "tokenizer.ggml.tokens",
            ),
        };
        let t = t.map_err(|e| e.file(file))?;
        if t.vocab_size() > self.spec().vocab_size {
            return Err(Error::mismatch("more tokens than the embedding has rows")
                .file(file)
                .item(item)
                .expected(format!("at most {}", self.spec().vocab_size))
                .found(t.vocab_size()));
        }
        Ok(self.0.tokenizer.get_or_init(|| t))
    }

    /// The chat template in the file, if it has one; compiled at the first call.
    ///
    /// # Errors
    /// A template that does not compile.
    pub fn chat_template(&self) -> Result<Option<&ChatTemplate>> {
        if self.0.chat_template.get().is_none() {
            let template = ChatTemplate::from_gguf(self.gguf().metadata(), self.tokenizer()?)
                .map_err(|e| e.file(self.gguf().path()))?;
            let _ = self.0.chat_template.set(template);
        }
        Ok(self.0.chat_template.get().and_then(Option::as_ref))
    }

    /// The chat template in the file.
    ///
    /// # Errors
    /// There is none, or it does not compile.
    pub fn need_chat_template(&self) -> Result<&ChatTemplate> {
        self.chat_template()?.ok_or_else(|| {
            Error::unsupported("this model has no chat template: it continues text, it does not answer")
                .file(self.gguf().path())
                .item("tokenizer.chat_template")
                .expected("a model tuned for chat")
        })
    }

    /// The ids of a conversation in the chat template in the file, ready for the assistant's answer.
    ///
    /// # Errors
    /// Those of [`Model::need_chat_template`]; messages that the template refuses.
    pub fn chat_tokens(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let text = self.need_chat_template()?.render(messages, true, None)?;
        // The template writes the begin token where the model wants one.
        let options = EncodeOptions {
            add_bos_eos: false,
            parse_special: true,
        };
        self.tokenizer()?.encode(&text, options)
    }

    /// Opens the PEFT folder (or the GGUF file of a LoRA) at `path` and puts it on this model. Sessions use it from
    /// [`Session::set_adapters`] on.
    ///
    /// # Errors
    /// A broken folder, a method or option that Graft does not do, a module or shape that this model does not have.
    pub fn load_adapter(&self, path: impl AsRef<Path>) -> Result<Adapter> {
        self.load_adapter_with(path, &AdapterOptions::default())
    }

    /// As [`Model::load_adapter`].
    ///
    /// # Errors
    /// As [`Model::load_adapter`], and a folder of several tasks without a choice.
    pub fn load_adapter_with(&self, path: impl AsRef<Path>, options: &AdapterOptions) -> Result<Adapter> {
        self.attach(&AdapterFile::open_with(path.as_ref(), options)?)
    }

    /// Puts an opened adapter on this model.
    ///
    /// # Errors
    /// A module or shape that this model does not have.
    pub fn attach(&self, file: &AdapterFile) -> Result<Adapter> {
        self.attach_each(file, &mut |_, _| ())
    }

    /// As [`Model::attach`]; `each` is told every form and its site: what depends on the base is made, and rows have
    /// the order of the model's file.
    ///
    /// # Errors
    /// As [`Model::attach`].
    pub fn attach_each(&self, file: &AdapterFile, each: Each) -> Result<Adapter> {
        let attached = Attached::new(self.backend(), self.spec(), self.weights(), file, each)?;
        let attached = Arc::new(attached);
        let alone = Active::new(self.backend(), self.spec(), &[(attached.clone(), 1.0)])?;
        Ok(Adapter {
            attached,
            alone: Arc::new(alone),
            method: file.method(),
            sites: file.sites().len(),
            parameters: file.parameters(),
            ranks: file.ranks(),
            model: self.clone(),
        })
    }

    /// Whether this model's sessions can have the adapter on with this weight.
    pub(super) fn check_adapter(&self, adapter: &Adapter, weight: f32) -> Result<()> {
        match (adapter.is_for(self), weight.is_finite()) {
            (false, _) => Err(Error::mismatch("the adapter was loaded for another model")),
            (_, false) => Err(Error::usage("adapter weight").expected("a finite number").found(weight)),
            _ => Ok(()),
        }
    }

    /// The adapters, each with its weight, as a session runs them.
    pub(super) fn activate(&self, adapters: &[(Adapter, f32)]) -> Result<Arc<Active<Device>>> {
        adapters
            .iter()
            .try_for_each(|(a, weight)| self.check_adapter(a, *weight))?;
        if let [(adapter, 1.0)] = adapters {
            return Ok(adapter.alone.clone());
        }
        let adapters: Vec<_> = adapters.iter().map(|(a, w)| (a.attached.clone(), *w)).collect();
        Active::new(self.backend(), self.spec(), &adapters).map(Arc::new)
    }

    /// The same model with other weights, on the same threads.
    pub(super) fn with_weights(&self, weights: Weights<Device>) -> Result<Model> {
        Ok(Model(Arc::new(Inner {
            gguf: self.0.gguf.clone(),
            spec: self.0.spec.clone(),
            backend: device::share(&self.0.backend)?,
            device: self.0.device.clone(),
            weights,
            tokenizer_file: self.0.tokenizer_file.clone(),
            tokenizer: OnceLock::new(),
            chat_template: OnceLock::new(),
            fingerprint: OnceLock::new(),
        })))
    }

    /// Writes an adapter for this model as a GGUF file that llama.cpp loads, with factors in `format` (F32, F16 or BF16).
    ///
    /// # Errors
    /// As [`export::export_lora`].
    pub fn export_lora(&self, file: &AdapterFile, path: impl AsRef<Path>, format: BlockFormat) -> Result<Exported> {
        export::export_lora(self.backend(), self.spec(), self.weights(), file, path.as_ref(), format)
    }

    /// Writes what an adapter adds to this model's weights as a plain LoRA that PEFT loads, to the folder `dir`; `progress` is told the
    /// share of the work that is done.
    ///
    /// # Errors
    /// As [`to_lora::to_lora`].
    pub fn to_lora(
        &self,
        file: &AdapterFile,
        dir: impl AsRef<Path>,
        rule: RankRule,
        progress: &dyn Fn(f32),
    ) -> Result<Vec<Kept>> {
        let (backend, spec, weights) = (self.backend(), self.spec(), self.weights());
        to_lora::to_lora(backend, spec, weights, file, dir.as_ref(), rule, progress)
    }

    /// Starts a conversation.
    ///
    /// # Errors
    /// A context of 0 or beyond the model's, or one whose cache does not fit in memory.
    pub fn session(&self, options: &SessionOptions) -> Result<Session> {
        Session::new(self.clone(), options)
    }

    /// Bytes of the KV cache of a session with these options, when its context is full.
    pub fn kv_bytes(&self, options: &SessionOptions) -> usize {
        plan::kv_bytes(self.spec(), options)
    }

    fn same(&self, other: &Model) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// An adapter on a model, ready for its sessions. Cloning shares it.
#[derive(Clone)]
pub struct Adapter {
    pub(super) attached: Arc<Attached<Device>>,
    /// What sessions run while it is the only one, at weight 1: switching is a matter of a pointer.
    alone: Arc<Active<Device>>,
    method: &'static str,
    sites: usize,
    parameters: usize,
    ranks: Vec<usize>,
    model: Model,
}

impl Adapter {
    /// The `peft_type`.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Modules that it changes.
    pub fn sites(&self) -> usize {
        self.sites
    }

    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The ranks of its low-rank updates, each once, ascending.
    pub fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    /// Bytes of memory that it takes, and its sessions share, at most: the f16 copies of f32 factors that
    /// [`Fast`](crate::kernels::Precision::Fast) makes with the first token are in the sum.
    pub fn bytes(&self) -> usize {
        self.attached.bytes(self.model.backend())
    }

    /// Whether it was loaded for `model`.
    pub fn is_for(&self, model: &Model) -> bool {
        self.model.same(model)
    }
}
