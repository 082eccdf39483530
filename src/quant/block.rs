//! What the formats share: declaring a block, walking blocks, half-precision scales.

/// Declares the bytes of a block in file order.
///
/// The struct is `repr(C)` and made of byte arrays only: it has no padding, alignment 1 and no invalid bit patterns, so
/// kernels may look at mapped bytes as `Block`s. The size is asserted against the format's definition.
macro_rules! block {
    ($(#[$doc:meta])* $bytes:literal bytes { $($(#[$field_doc:meta])* $field:ident: $n:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct Block {
            $($(#[$field_doc])* pub $field: [u8; $n],)+
        }

        const _: () = assert!(size_of::<Block>() == $bytes && align_of::<Block>() == 1);

        impl Block {
            /// The block at `bytes`.
            pub fn read(bytes: &[u8; $bytes]) -> Self {
                let rest = &bytes[..];
                $(let ($field, rest) = crate::quant::block::split(rest);)+
                debug_assert!(rest.is_empty());
                Self { $($field),+ }
            }

            /// Its bytes.
            #[allow(dead_code, reason = "only formats with `quantize` write")]
            pub fn to_bytes(self) -> [u8; $bytes] {
                let mut bytes = [0; $bytes];
                let mut at = 0;
                $(
                    bytes[at..at + $n].copy_from_slice(&self.$field);
                    at += $n;
                )+
                debug_assert_eq!(at, $bytes);
                bytes
            }
        }
    };
}
pub(super) use block;

/// The first `N` bytes and the rest; `block!` has checked that the fields fill the block.
pub(super) fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    match bytes.split_first_chunk() {
        Some((head, rest)) => (*head, rest),
        None => unreachable!("the fields of a block are as long as the block"),
    }
}

/// Calls `expand` on every block of `bytes` and its `LEN` elements of `out`.
pub(super) fn unpack_blocks<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    expand: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let ((blocks, rest_in), (out, rest_out)) = (bytes.as_chunks(), out.as_chunks_mut());
    assert!(
        blocks.len() == out.len() && rest_in.is_empty() && rest_out.is_empty(),
        "whole blocks and their elements"
    );
    for (block, out) in blocks.iter().zip(out) {
        expand(block, out);
    }
}

/// Fills every block of `out` with what `pack` makes of its `LEN` elements of `values` and the importance of their columns.
pub(super) fn pack_blocks<const BYTES: usize, const LEN: usize>(
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    pack: impl Fn(&[f32; LEN], Option<&[f32; LEN]>) -> [u8; BYTES],
) {
    let ((values, rest_in), (blocks, rest_out)) = (values.as_chunks(), out.as_chunks_mut());
    assert!(
        blocks.len() == values.len() && rest_in.is_empty() && rest_out.is_empty(),
        "whole blocks and their elements"
    );
    let weights = importance.map_or(&[][..], |w| w.as_chunks::<LEN>().0);
    // One row of weights for all rows of values.
    let weights = weights.iter().cycle().map(Some).chain(std::iter::repeat(None));
    for ((values, weights), block) in values.iter().zip(weights).zip(blocks) {
        *block = pack(values, weights);
    }
}

/// A little-endian IEEE half as f32: exact, denormals included; a signalling NaN becomes quiet, as in hardware.
pub(super) fn half(bytes: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(bytes).to_f32()
}

/// The nearest IEEE half (ties to even, overflow to infinity), little-endian.
pub(super) fn to_half(value: f32) -> [u8; 2] {
    half::f16::from_f32(value).to_le_bytes()
}
