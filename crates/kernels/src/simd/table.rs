//! The table of float kernels for one instruction set, from the functions written once.

/// Defines `FLOATS` for a token type and the target features it proves; the product of matrices is given.
///
/// Operations without sums or functions are the plain loops of `scalar/`, compiled for the instruction set; their bits
/// are the same for every set.
macro_rules! float_kernels {
    ($token:ty, $features:literal, $gemm:expr) => {
        /// The float kernels.
        pub(crate) const FLOATS: $crate::floats::FloatKernels = $crate::floats::FloatKernels {
            gemm: $gemm,
            rms_norm,
            rms_norm_backward,
            layer_norm,
            layer_norm_backward,
            rope,
            silu_mul,
            silu_mul_backward,
            add,
            scale,
            log_sum_exp,
            scaled_softmax,
            dropout,
            adamw,
            adamw8,
            axpby,
            sum_squares,
            to_f16,
            to_q8,
            attention,
            attention_backward,
        };

        use $crate::ops::attention::{TileGrads, TileKeys, TilePart, TileSaved};
        use $crate::ops::dropout::DropoutRule;
        use $crate::ops::optimizer::AdamWFactors;
        use $crate::scalar::moments8::Block as Moments8;
        use $crate::{scalar, simd};

        $crate::simd::table::vector_kernels! { $token, $features;
            rms_norm = simd::norm::rms_norm(
                y: &mut [f32], rstd: &mut [f32], x: &[f32], weight: &[f32], eps: f32);
            rms_norm_backward = simd::norm::rms_norm_backward(
                dx: &mut [f32], dweight: &mut [f32], dy: &[f32], x: &[f32], weight: &[f32], rstd: &[f32]);
            layer_norm = simd::norm::layer_norm(
                y: &mut [f32], stats: [&mut [f32]; 2], x: &[f32], affine: [&[f32]; 2], eps: f32);
            layer_norm_backward = simd::norm::layer_norm_backward(
                dx: &mut [f32], daffine: [&mut [f32]; 2], dy: &[f32], x: &[f32], weight: &[f32],
                stats: [&[f32]; 2]);
            silu_mul = simd::activation::silu_mul(y: &mut [f32], gate: &[f32], up: &[f32]);
            silu_mul_backward = simd::activation::silu_mul_backward(
                dy: &mut [f32], dup: &mut [f32], y: &mut [f32], gate: &[f32], up: &[f32]);
            log_sum_exp = simd::loss::log_sum_exp(logits: &[f32]) -> f32;
            scaled_softmax = simd::loss::scaled_softmax(logits: &mut [f32], scale: f32) -> f32;
            sum_squares = simd::optimizer::sum_squares(x: &[f32]) -> f64;
            attention = simd::attention::attention(part: TilePart<'_>, q: &[f32], keys: &TileKeys<'_>);
            attention_backward = simd::attention::attention_backward(
                grads: TileGrads<'_>, saved: &TileSaved<'_>, keys: &TileKeys<'_>);
        }

        $crate::simd::table::plain_kernels! { $features;
            rope = scalar::rope(x: &mut [f32], cos: &[f32], sin: &[f32], head_dim: usize, direction: f32);
            add = scalar::add(y: &mut [f32], x: &[f32]);
            scale = scalar::scale(x: &mut [f32], s: f32);
            to_f16 = scalar::to_f16(y: &mut [half::f16], x: &[f32]);
            to_q8 = scalar::to_q8(y: &mut [i8], x: &[f32]) -> half::f16;
            dropout = scalar::dropout(x: &mut [f32], first: u64, rule: &DropoutRule);
            adamw = scalar::adamw(
                param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], factors: &AdamWFactors);
            adamw8 = scalar::moments8::adamw8(
                param: &mut [f32], grad: &[f32], block: Moments8<'_>, factors: &AdamWFactors);
            axpby = scalar::axpby(y: &mut [f32], x: &[f32], factors: [f32; 2]);
        }
    };
}
pub(crate) use float_kernels;

/// Functions that pass a token made for the instruction set.
macro_rules! vector_kernels {
    ($token:ty, $features:literal;
     $($name:ident = $($part:ident)::+ ($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => { $(
        #[target_feature(enable = $features)]
        fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: compiled for, and so only called on, a CPU that has the features of the token.
            let token = unsafe { <$token>::new() };
            $($part)::+(token, $($argument),*)
        }
    )* };
}
pub(crate) use vector_kernels;

/// Plain loops compiled for the instruction set.
macro_rules! plain_kernels {
    ($features:literal;
     $($name:ident = $($part:ident)::+ ($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => { $(
        #[target_feature(enable = $features)]
        fn $name($($argument: $type),*) $(-> $result)? {
            $($part)::+($($argument),*)
        }
    )* };
}
pub(crate) use plain_kernels;
