//! The matrix products of one layer and of the output head in a training step: GFLOP/s of each, as JSON lines.

use clap::Parser;
use shakti_kernels::{Aligned, Cpu, KernelSet, MatMut, MatRef, Precision};
use shakti_measure::{Spread, seconds};

/// The shape of the model, and how to multiply.
#[derive(Debug, Parser)]
struct Args {
    #[arg(long, default_value_t = 2048)]
    tokens: usize,
    #[arg(long, default_value_t = 640)]
    hidden: usize,
    #[arg(long, default_value_t = 2560)]
    ffn: usize,
    #[arg(long, default_value_t = 320)]
    kv: usize,
    #[arg(long, default_value_t = 32000)]
    vocab: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// f32, bf16 or int16
    #[arg(long, default_value = "f32")]
    precision: String,
    /// Kernel set; absent: the best
    #[arg(long)]
    kernels: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let cpu = match &args.kernels {
        Some(name) => Cpu::new(KernelSet::by_name(name)?, args.threads),
        None => Cpu::detect(Some(args.threads))?,
    };
    let precision = match args.precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        "int16" => Precision::Int16,
        other => anyhow::bail!("--precision is {other}, expected f32, bf16 or int16"),
    };
    let (n, d, f) = (args.tokens, args.hidden, args.ffn);
    // [out, in] of the weights.
    for (what, out, input, rows) in [
        ("q", d, d, n),
        ("k", args.kv, d, n),
        ("up", f, d, n),
        ("down", d, f, n),
        ("head", args.vocab, d, 512),
    ] {
        let (x, w, y) = (values(rows * input), values(out * input), values(rows * out));
        let (mut dx, mut dw, mut to) = (values(x.len()), values(w.len()), values(y.len()));
        let x = MatRef::new(&x, rows, input);
        let w = MatRef::new(&w, out, input);
        let dy = MatRef::new(&y, rows, out);
        let flops = 2.0 * (rows * input * out) as f64;
        let rate = |product: &mut dyn FnMut()| {
            product();
            let rates: Vec<f64> = (0..args.repeat).map(|_| flops / seconds(&mut *product) / 1e9).collect();
            Spread::of(&rates)
        };
        let forward = rate(&mut || cpu.gemm(precision, false, MatMut::new(&mut to, rows, out), x, w.t()));
        let input_gradient =
            rate(&mut || cpu.gemm(precision, false, MatMut::new(&mut dx, rows, input), dy, w));
        let weight_gradient =
            rate(&mut || cpu.gemm(precision, true, MatMut::new(&mut dw, out, input), dy.t(), x));
        let report = serde_json::json!({
            "weight": what, "rows": rows, "out": out, "in": input, "kernel_set": cpu.kernels.name(),
            "forward_gflops": forward.median.round(), "input_gradient_gflops": input_gradient.median.round(),
            "weight_gradient_gflops": weight_gradient.median.round(),
        });
        println!("{report}");
    }
    Ok(())
}

/// Small values, none zero.
fn values(len: usize) -> Aligned {
    let mut values = Aligned::zeros(len);
    values.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 13) as f32 * 0.01 - 0.055);
    values
}
