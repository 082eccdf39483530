//! stub
#![allow(missing_docs, unused)]
use crate::error::Result;
use std::path::Path;
pub struct PeftFolder;
pub struct TensorView<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
}
impl TensorView<'_> {
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        todo!()
    }
}
impl PeftFolder {
    pub fn open(_: &Path) -> Result<Self> {
        todo!()
    }
    pub fn config_path(&self) -> &Path {
        todo!()
    }
    pub fn tensors_path(&self) -> &Path {
        todo!()
    }
    pub fn peft_type(&self) -> Result<&str> {
        todo!()
    }
    pub fn str(&self, _: &str) -> Result<Option<&str>> {
        todo!()
    }
    pub fn bool(&self, _: &str, d: bool) -> Result<bool> {
        todo!()
    }
    pub fn usize(&self, _: &str, d: usize) -> Result<usize> {
        todo!()
    }
    pub fn f64(&self, _: &str, d: f64) -> Result<f64> {
        todo!()
    }
    pub fn value(&self, _: &str) -> Option<&serde_json::Value> {
        todo!()
    }
    pub fn object(&self, _: &str) -> Result<Option<&serde_json::Map<String, serde_json::Value>>> {
        todo!()
    }
    pub fn fields(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        std::iter::empty()
    }
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        std::iter::empty()
    }
}
