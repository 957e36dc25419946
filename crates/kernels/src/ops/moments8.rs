//! AdamW whose moments take 8 bits each: how they are stored, and the step on all of them.

use super::optimizer::AdamWStep;
use super::{TASK_ELEMENTS, check_len};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;
use crate::scalar::moments8::{Block, SIGNED_ZERO, code_values};

/// Values that share a scale; the last block of a tensor may be shorter.
pub const MOMENT_BLOCK: usize = 256;

/// Values in 8 bits: `codes[i]` stands for its value in [`Moment8::code_values`] times `scales[i / MOMENT_BLOCK]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment8 {
    /// One code a value.
    pub codes: Vec<u8>,
    /// Largest magnitude of each block.
    pub scales: Vec<f32>,
}

impl Moment8 {
    /// `len` zeros; `signed` for the first moment.
    pub fn zeros(len: usize, signed: bool) -> Self {
        let zero = if signed { SIGNED_ZERO } else { 0 };
        Self { codes: vec![zero; len], scales: vec![0.0; len.div_ceil(MOMENT_BLOCK)] }
    }

    /// What the codes stand for, in units of the scale.
    pub fn code_values(signed: bool) -> [f32; 256] {
        code_values(signed)
    }
}

impl Cpu {
    /// [`Cpu::adamw`] with the moments read from and written to 8 bits; the sums of the step are f32.
    pub fn adamw8(&self, param: &mut [f32], grad: &[f32], moments: [&mut Moment8; 2], step: &AdamWStep) {
        const BLOCKS: usize = TASK_ELEMENTS / MOMENT_BLOCK;
        let len = param.len();
        check_len("adamw8: grad", grad, len);
        for moment in &moments {
            let found = (moment.codes.len(), moment.scales.len());
            assert!(
                found == (len, len.div_ceil(MOMENT_BLOCK)),
                "adamw8: {found:?} codes and scales for {len}"
            );
        }
        let factors = step.factors();
        let [m, v] = moments.map(|Moment8 { codes, scales }| (Disjoint::new(codes), Disjoint::new(scales)));
        let param = Disjoint::new(param);
        self.for_ranges(len.div_ceil(MOMENT_BLOCK), BLOCKS, &|_, blocks| {
            for block in blocks {
                let part = block * MOMENT_BLOCK..len.min((block + 1) * MOMENT_BLOCK);
                // SAFETY: the ranges of different blocks do not overlap, and each block belongs to one task.
                let (param, codes, scales) = unsafe {
                    let codes = [m.0.part(part.clone()), v.0.part(part.clone())];
                    (
                        param.part(part.clone()),
                        codes,
                        [m.1.part(block..block + 1), v.1.part(block..block + 1)],
                    )
                };
                let state = Block { codes, scales: scales.map(|scale| &mut scale[0]) };
                kernel!(self, adamw8(param, &grad[part], state, &factors));
            }
        });
    }
}
