//! The table of kernels for one instruction set, and which of them this CPU can run.
//!
//! The sets form a ladder, each needing everything below it (but `avx512-bw` and those above it do without AVX-VNNI):
//!
//! | name | needs | adds |
//! |---|---|---|
//! | `scalar` | nothing | the definition of every operation |
//! | `avx2` | AVX2, FMA, F16C | 8 lanes; products of pairs of 16-bit integers in `gemm` |
//! | `avx2-vnni` | AVX-VNNI | int8 and int16 dot products |
//! | `avx512-bw` | AVX-512 F, BW, DQ, VL | 16 lanes |
//! | `avx512` | AVX-512 VNNI | int8 and int16 dot products of 16 lanes |
//! | `avx512-bf16` | AVX-512 BF16 | bf16 dot products in `gemm` |
//! | `amx` | AMX-TILE, AMX-BF16, and tile state granted by the system | bf16 tiles in `gemm` |
//!
//! and on 64-bit Arm:
//!
//! | name | needs | adds |
//! |---|---|---|
//! | `scalar` | nothing | the definition of every operation |
//! | `neon` | NEON | 4 lanes |
//! | `neon-dotprod` | dotprod | int8 dot products |
//! | `neon-i8mm` | i8mm | int8 products of small matrices, for several rows |
//!
//! Where an instruction exists but is slow, the set it would add is available by name and not chosen: Intel's CPUs with
//! AVX-512 BF16 start one 512-bit bf16 dot product every other cycle (measured on Sapphire Rapids), half of what two
//! f32 multiply-adds do per cycle, so there `avx512` multiplies rounded inputs as f32.
//!
//! A set can only be obtained through [`KernelSet::available`], [`KernelSet::by_name`] or [`KernelSet::best`], which
//! look at the CPU first; that is what makes calling its functions sound.

#[cfg(target_arch = "aarch64")]
use crate::aarch64;
use crate::error::Error;
use crate::floats::FloatKernels;
use crate::matrix::Precision;
use crate::packed::kernels::PackedKernels;
use crate::scalar;
#[cfg(target_arch = "x86_64")]
use crate::x86_64;
use std::sync::OnceLock;

/// The environment variable that names the kernel set to use instead of the best one.
pub const KERNELS_VARIABLE: &str = "SHAKTI_KERNELS";

/// The functions for one instruction set.
///
/// For one set the results are the same bits for any number of threads; two sets agree within the tolerances that
/// the tests state.
pub struct KernelSet {
    name: &'static str,
    /// Whether this CPU, and the system it runs under, can run the set.
    supported: fn() -> bool,
    /// Whether it is faster here than the sets below it.
    preferred: fn() -> bool,
    /// What it multiplies fastest of the precisions that training can do with.
    fastest_precision: Precision,
    pub(crate) floats: FloatKernels,
    pub(crate) packed: PackedKernels,
}

impl std::fmt::Debug for KernelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KernelSet").field(&self.name).finish()
    }
}

/// Every set compiled into this program, slowest first.
static ALL: &[&KernelSet] = &[
    &SCALAR,
    #[cfg(target_arch = "x86_64")]
    &AVX2,
    #[cfg(target_arch = "x86_64")]
    &AVX2_VNNI,
    #[cfg(target_arch = "x86_64")]
    &AVX512_BW,
    #[cfg(target_arch = "x86_64")]
    &AVX512,
    #[cfg(target_arch = "x86_64")]
    &AVX512_BF16,
    #[cfg(target_arch = "x86_64")]
    &AMX,
    #[cfg(target_arch = "aarch64")]
    &NEON,
    #[cfg(target_arch = "aarch64")]
    &NEON_DOTPROD,
    #[cfg(target_arch = "aarch64")]
    &NEON_I8MM,
];

static SCALAR: KernelSet = KernelSet {
    name: "scalar",
    supported: || true,
    preferred: || true,
    fastest_precision: Precision::F32,
    floats: scalar::FLOATS,
    packed: scalar::PACKED,
};

#[cfg(target_arch = "x86_64")]
static AVX2: KernelSet = KernelSet {
    name: "avx2",
    supported: x86_64::has_avx2,
    preferred: || true,
    fastest_precision: Precision::Int16,
    floats: x86_64::avx2::FLOATS,
    packed: x86_64::avx2::packed::PLAIN,
};

#[cfg(target_arch = "x86_64")]
static AVX2_VNNI: KernelSet = KernelSet {
    name: "avx2-vnni",
    supported: x86_64::has_avx2_vnni,
    preferred: || true,
    fastest_precision: Precision::Int16,
    floats: x86_64::avx2::FLOATS_VNNI,
    packed: x86_64::avx2::packed::VNNI,
};

#[cfg(target_arch = "x86_64")]
static AVX512_BW: KernelSet = KernelSet {
    name: "avx512-bw",
    supported: x86_64::has_avx512_bw,
    preferred: || true,
    fastest_precision: Precision::F32,
    floats: x86_64::avx512::FLOATS_BW,
    packed: x86_64::avx512::packed::BW,
};

#[cfg(target_arch = "x86_64")]
static AVX512: KernelSet = KernelSet {
    name: "avx512",
    supported: x86_64::has_avx512,
    preferred: || true,
    fastest_precision: Precision::Int16,
    floats: x86_64::avx512::FLOATS,
    packed: x86_64::avx512::packed::VNNI,
};

#[cfg(target_arch = "x86_64")]
static AVX512_BF16: KernelSet = KernelSet {
    name: "avx512-bf16",
    supported: x86_64::has_avx512_bf16,
    preferred: x86_64::multiplies_bf16_fast,
    fastest_precision: Precision::Bf16,
    floats: x86_64::avx512_bf16::FLOATS,
    packed: x86_64::avx512::packed::VNNI,
};

#[cfg(target_arch = "x86_64")]
static AMX: KernelSet = KernelSet {
    name: "amx",
    supported: x86_64::amx::has_amx,
    preferred: || true,
    fastest_precision: Precision::Bf16,
    floats: x86_64::amx::FLOATS,
    packed: x86_64::avx512::packed::VNNI,
};

#[cfg(target_arch = "aarch64")]
static NEON: KernelSet = KernelSet {
    name: "neon",
    supported: aarch64::has_neon,
    preferred: || true,
    fastest_precision: Precision::F32,
    floats: aarch64::neon::FLOATS,
    packed: aarch64::packed::NEON,
};

#[cfg(target_arch = "aarch64")]
static NEON_DOTPROD: KernelSet = KernelSet {
    name: "neon-dotprod",
    supported: aarch64::has_dotprod,
    preferred: || true,
    fastest_precision: Precision::F32,
    floats: aarch64::neon::FLOATS,
    packed: aarch64::packed::DOTPROD,
};

#[cfg(target_arch = "aarch64")]
static NEON_I8MM: KernelSet = KernelSet {
    name: "neon-i8mm",
    supported: aarch64::has_i8mm,
    preferred: || true,
    fastest_precision: Precision::F32,
    floats: aarch64::neon::FLOATS,
    packed: aarch64::packed::I8MM,
};

impl KernelSet {
    /// The sets this CPU can run, slowest first; the first is always `scalar`.
    pub fn available() -> &'static [&'static KernelSet] {
        static AVAILABLE: OnceLock<Vec<&'static KernelSet>> = OnceLock::new();
        AVAILABLE.get_or_init(|| ALL.iter().copied().filter(|set| (set.supported)()).collect())
    }

    /// The set called `name`.
    ///
    /// # Errors
    /// If there is no such set, or this CPU cannot run it.
    pub fn by_name(name: &str) -> Result<&'static KernelSet, Error> {
        Self::find("kernel set", name)
    }

    /// The fastest set this CPU can run, or the one the environment variable `SHAKTI_KERNELS` names.
    ///
    /// # Errors
    /// If the variable names a set that does not exist or that this CPU cannot run.
    pub fn best() -> Result<&'static KernelSet, Error> {
        match std::env::var_os(KERNELS_VARIABLE) {
            Some(name) => Self::find(KERNELS_VARIABLE, &name.to_string_lossy()),
            None => {
                let fast = Self::available().iter().rfind(|set| (set.preferred)());
                Ok(fast.unwrap_or(&Self::available()[0]))
            }
        }
    }

    /// The name by which tests, records and `SHAKTI_KERNELS` know the set.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The precision in which the set multiplies matrices fastest, among those that training loses nothing by.
    pub fn fastest_precision(&self) -> Precision {
        self.fastest_precision
    }

    fn find(place: &'static str, name: &str) -> Result<&'static KernelSet, Error> {
        if let Some(set) = Self::available().iter().find(|set| set.name == name) {
            return Ok(set);
        }
        let names = |sets: &[&KernelSet]| sets.iter().map(|set| set.name).collect::<Vec<_>>().join(", ");
        let name = name.to_owned();
        Err(if ALL.iter().any(|set| set.name == name) {
            Error::UnsupportedKernelSet { place, name, available: names(Self::available()) }
        } else {
            Error::UnknownKernelSet { place, name, known: names(ALL) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_there_and_found_by_name() {
        assert_eq!(KernelSet::available()[0].name(), "scalar");
        for set in KernelSet::available() {
            assert_eq!(KernelSet::by_name(set.name()).expect("an available set").name(), set.name());
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_names_that_exist() {
        let error = KernelSet::by_name("mmx").expect_err("no such set");
        assert!(matches!(error, Error::UnknownKernelSet { .. }));
        let message = error.to_string();
        assert!(message.contains("`mmx`") && message.contains("scalar"), "{message}");
    }
}
