//! How long a step of data parallel training would take on several machines: the measured step of one, and a model of the network.
//!
//! Nothing here is measured but `--step-seconds`. The model: full-duplex links of one speed at a switch that does not block, a
//! fixed time for each message, sums and broadcasts one after another, sums beside the backward pass (two thirds of the step).
//! For `B` bytes among `n` machines:
//!
//! - sum at the owner: every machine sums a share (`B (n-1)/n` in and out of each), the owner gathers the shares (as much again);
//! - broadcast: scattered, then exchanged (as much, twice).

use clap::Parser;
use shakti_model::{Layout, preset};

/// What was measured, and the network.
#[derive(Debug, Parser)]
struct Args {
    /// The model
    #[arg(long, default_value = "shakti-100m")]
    preset: String,
    /// Seconds of one step on one machine
    #[arg(long)]
    step_seconds: f64,
    /// Seconds of its update of the weights alone
    #[arg(long, default_value_t = 0.0)]
    update_seconds: f64,
    /// Gigabits a second of a link
    #[arg(long, value_delimiter = ',', default_value = "1,10,25,100")]
    gbit: Vec<f64>,
    /// Microseconds that a message takes besides
    #[arg(long, default_value_t = 50.0)]
    latency_us: f64,
    /// Machines
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32")]
    nodes: Vec<usize>,
    /// Steps' worth of micro-batches that each machine computes before gradients travel
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    accumulate: Vec<usize>,
}

/// A link and what a message costs on it.
#[derive(Clone, Copy)]
struct Network {
    bytes_per_s: f64,
    latency_s: f64,
}

impl Network {
    /// Seconds until the owner has the sum of everybody's `bytes`; a broadcast takes as long.
    fn seconds(self, bytes: f64, nodes: usize) -> f64 {
        let n = nodes as f64;
        2.0 * ((n - 1.0) / n * bytes / self.bytes_per_s + (n - 1.0) * self.latency_s)
    }
}

/// Bytes of gradients in the order in which the backward pass finishes them: layers from the last, then the rest.
fn buckets(layout: &Layout, layers: usize) -> Vec<f64> {
    let bytes = |prefix: &str| {
        let of = layout.specs().iter().filter(|spec| spec.name.starts_with(prefix));
        4.0 * of.map(|spec| spec.num_elements() as f64).sum::<f64>()
    };
    let mut buckets: Vec<f64> =
        (0..layers).rev().map(|layer| bytes(&format!("model.layers.{layer}."))).collect();
    buckets.push(4.0 * layout.num_elements() as f64 - buckets.iter().sum::<f64>());
    buckets
}

/// Seconds of one step.
fn step(args: &Args, buckets: &[f64], network: Network, (nodes, accumulate): (usize, usize)) -> f64 {
    let compute = args.step_seconds - args.update_seconds;
    let backward = compute * 2.0 / 3.0;
    let before = accumulate as f64 * compute - backward;
    let mut sums_end = 0.0_f64;
    for (index, bytes) in buckets.iter().enumerate() {
        let ready = before + backward * (index + 1) as f64 / buckets.len() as f64;
        sums_end = sums_end.max(ready) + network.seconds(*bytes, nodes);
    }
    let weights: f64 = buckets.iter().map(|bytes| network.seconds(*bytes, nodes)).sum();
    sums_end + args.update_seconds / nodes as f64 + weights
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = preset(&args.preset)?;
    let buckets = buckets(&Layout::new(&config), config.num_hidden_layers);
    println!(
        "| machines | link, Gbit/s | micro-batches between sums | seconds a step | times one machine | of ideal |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for &accumulate in &args.accumulate {
        for &gbit in &args.gbit {
            let network = Network { bytes_per_s: gbit * 1e9 / 8.0, latency_s: args.latency_us * 1e-6 };
            let alone = step(&args, &buckets, network, (1, accumulate));
            for &nodes in args.nodes.iter().filter(|nodes| **nodes > 1) {
                let seconds = step(&args, &buckets, network, (nodes, accumulate));
                let speed = nodes as f64 * alone / seconds;
                let share = 100.0 * speed / nodes as f64;
                println!("| {nodes} | {gbit} | {accumulate} | {seconds:.2} | {speed:.2} | {share:.0}% |");
            }
        }
    }
    Ok(())
}
