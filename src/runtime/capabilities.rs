//! provisional
use super::spec::CapabilitySets;
use crate::error::{Doing, Result};
#[derive(Default)]
pub struct Sets {
    pub bits: u64,
}
impl Sets {
    pub fn from_spec(_: Option<&CapabilitySets>) -> Result<(Sets, Vec<String>)> {
        Ok((Sets::default(), vec![]))
    }
}
pub fn apply_bounding(_: &Sets) -> Result<()> {
    Ok(())
}
pub fn apply(_: &Sets) -> Result<()> {
    Ok(())
}
pub fn keep_over_setuid() -> Result<()> {
    crate::sys::ids::keep_capabilities(true).doing(|| "keep".into())
}
pub fn names() -> Vec<&'static str> {
    vec![]
}
pub fn has_setid() -> bool {
    true
}
