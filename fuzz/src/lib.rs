//! What the targets, the seeds and the runner share.

pub mod capi;

/// Takes an input apart: a length (u32, little-endian), as many bytes, and the rest.
pub fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

/// The input that [`split`] takes apart into `first` and `second`.
pub fn join(first: &[u8], second: &[u8]) -> Vec<u8> {
    let len = u32::try_from(first.len()).expect("a seed is small");
    [&len.to_le_bytes()[..], first, second].concat()
}

/// An error must stay one line.
pub fn check(e: &graft::Error) {
    assert!(!e.to_string().contains(['\n', '\r']), "{e}");
}
