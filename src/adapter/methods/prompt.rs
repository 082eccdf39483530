//! Prompt tuning (Lester et al. 2021, arXiv 2104.08691), P-tuning (Liu et al. 2021, arXiv 2103.10385) and multitask prompt tuning (Wang et
//! al. 2023, arXiv 2303.02861): `prompt_embeddings` (n, dim) stand before the text as n tokens would. P-tuning's encoder was evaluated when it
//! was saved. In the multitask form the prompt of task t is P ⊙ (C R) of its `prefix_task_cols` and `prefix_task_rows` (peft/peft_model.py).

use crate::adapter::matrix::Matrix;
use crate::adapter::options::Rule;
use crate::adapter::source::{Method, Source, bad_shape, matrix};
use crate::adapter::{Lowered, Prefix};
use crate::error::{Error, Result};

const PROMPT: &str = "prompt_embeddings";
const COLS: &str = "prefix_task_cols";
const ROWS: &str = "prefix_task_rows";

/// Fields of all of them: sizes, which the tensors tell, and how training began.
pub(super) const OPTIONS: &[(&str, Rule)] = &[
    ("num_virtual_tokens", Rule::Fine),
    ("token_dim", Rule::Fine),
    ("num_transformer_submodules", Rule::Fine),
    ("num_attention_heads", Rule::Fine),
    ("num_layers", Rule::Fine),
    ("prompt_tuning_init", Rule::Fine),
    ("prompt_tuning_init_text", Rule::Fine),
    ("tokenizer_name_or_path", Rule::Fine),
    ("tokenizer_kwargs", Rule::Fine),
    ("encoder_reparameterization_type", Rule::Fine),
    ("encoder_hidden_size", Rule::Fine),
    ("encoder_num_layers", Rule::Fine),
    ("encoder_dropout", Rule::Fine),
    ("prefix_projection", Rule::Fine),
    ("prompt_tuning_init_state_dict_path", Rule::Fine),
    ("prompt_tuning_init_task", Rule::Fine),
    ("num_ranks", Rule::Fine),
    ("num_tasks", Rule::Fine),
];

/// Prompt tuning.
pub const METHOD: Method = Method {
    peft_type: "PROMPT_TUNING",
    options: OPTIONS,
    tensors: &[],
    shared: &[PROMPT],
    lower,
};

/// P-tuning.
pub const P_TUNING: Method = Method {
    peft_type: "P_TUNING",
    ..METHOD
};

/// Multitask prompt tuning.
pub const MULTITASK: Method = Method {
    peft_type: "MULTITASK_PROMPT_TUNING",
    shared: &[PROMPT, COLS, ROWS],
    lower: multitask,
    ..METHOD
};

fn lower(source: &Source) -> Result<Lowered> {
    let mut lowered = source.lower(|_| Ok(Vec::new()))?;
    lowered.prefix = Some(Prefix::Embeddings(prompt(source)?));
    Ok(lowered)
}

/// `prompt_embeddings`, a row for each virtual token of the config.
///
/// # Errors
/// Another number of rows; a prompt for an encoder too.
pub(super) fn prompt(source: &Source) -> Result<Matrix> {
    let (folder, t) = (source.folder, source.need_shared(PROMPT)?);
    let n = folder.usize("num_virtual_tokens", t.shape.first().copied().unwrap_or(0))?;
    let field = "num_transformer_submodules";
    if folder.value(field).is_some_and(|v| !v.is_null()) && folder.usize(field, 1)? != 1 {
        let e = Error::unsupported("a prompt for an encoder and a decoder").expected(1);
        return Err(folder.error(e, field));
    }
    let prompt = matrix(t)?;
    if prompt.rows() != n {
        return Err(bad_shape(t, format_args!("[{n}, …], as num_virtual_tokens says")));
    }
    Ok(prompt)
}

fn multitask(source: &Source) -> Result<Lowered> {
    let prompt = prompt(source)?;
    let (tc, tr) = (source.need_shared(COLS)?, source.need_shared(ROWS)?);
    let ([tasks, n, rank], [row_tasks, row_rank, dim]) = (three(tc)?, three(tr)?);
    for (field, found) in [("num_tasks", tasks), ("num_ranks", rank)] {
        let configured = source.folder.usize(field, 1)?;
        if configured != found {
            let e = Error::mismatch("the tensors have another number")
                .expected(found)
                .found(configured);
            return Err(source.folder.error(e, field));
        }
    }
    if n != prompt.rows() {
        return Err(bad_shape(tc, format_args!("[tasks, {}, ranks]", prompt.rows())));
    }
    if [row_tasks, row_rank, dim] != [tasks, rank, prompt.cols()] {
        return Err(bad_shape(tr, format_args!("[{tasks}, {rank}, {}]", prompt.cols())));
    }
    let cols = Matrix::from_tensor(tc, tasks * n, rank)?.to_f32();
    let rows = Matrix::from_tensor(tr, tasks * rank, dim)?.to_f32();
    let task = match source.task_id {
        Some(task) if task < tasks => task,
        None if tasks == 1 => 0,
        other => {
            let e = Error::usage("which task?").file(source.folder.dir()).item("task id");
            let e = e.expected(format_args!("0 to {}", tasks - 1));
            return Err(e.found(other.map_or("none".to_string(), |t| t.to_string())));
        }
    };
    let (cols, rows) = (
        &cols[task * n * rank..][..n * rank],
        &rows[task * rank * dim..][..rank * dim],
    );
    let prompt = prompt.map(|i, j, v| v * (0..rank).map(|k| cols[i * rank + k] * rows[k * dim + j]).sum::<f32>());
    let mut lowered = source.lower(|_| Ok(Vec::new()))?;
    lowered.prefix = Some(Prefix::Embeddings(prompt));
    Ok(lowered)
}

fn three(t: &crate::format::TensorView) -> Result<[usize; 3]> {
    match t.shape[..] {
        [a, b, c] if a * b * c > 0 => Ok([a, b, c]),
        _ => Err(bad_shape(t, "three dimensions, none 0")),
    }
}
