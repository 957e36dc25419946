//! One cell: the model opened, the rounds, what they come to.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use shakti_checkpoint::ModelFile;
use shakti_engine::Model;
use shakti_kernels::Cpu;
use shakti_measure::{
    Cell, EnergyCounter, Machine, Meter, Peer, PeerRates, Speedometer, Spread, Usage, peak_memory_bytes,
};
use shakti_model::{Cost, ModelConfig};
use shakti_quant::FileType;

use super::BenchArgs;
use super::report::{CellReport, Comparison};
use crate::failure::Failure;
use crate::settings::Settings;

/// What one round took.
struct Round {
    prefill: Usage,
    decode: Usage,
    peer: Option<PeerRates>,
}

/// Measures one cell in this process.
pub fn measure(
    args: &BenchArgs,
    settings: &Settings,
    threads: usize,
    cell: Cell,
) -> Result<CellReport, Failure> {
    let path = args.model();
    let cpu = Arc::new(Cpu::new(settings.kernels, threads));
    let start = Instant::now();
    let model = Model::open_with(path, cpu, args.serve.options())?;
    settings.check_screen(&model, args.serve.options());
    let load_s = start.elapsed().as_secs_f64();
    let meter = Meter { energy: args.energy_counter(settings) };
    let mut speed = Speedometer::new(model.network(), cell);
    let peer = args.peer(threads, &cell);
    let rounds = rounds(args, settings, (&mut speed, &meter, cell), peer.as_ref())?;

    let tokens = [cell.prompt, cell.generate].map(|tokens| (tokens * cell.batch) as f64);
    let [prompt_tokens, new_tokens] = tokens;
    let rates = |tokens: f64, of: fn(&Round) -> Usage| -> Vec<f64> {
        rounds.iter().map(|round| tokens / of(round).seconds).collect()
    };
    let prefill = rates(prompt_tokens, |round| round.prefill);
    let decode = rates(new_tokens, |round| round.decode);
    let joules = |of: fn(&Round) -> Usage, tokens: f64| median(&rounds, |round| of(round).joules, tokens);
    let prefill_joules = joules(|round| round.prefill, prompt_tokens);
    let decode_joules = joules(|round| round.decode, new_tokens);
    // A counter that stands still while the processor works (virtual machines have such) has measured nothing.
    let moved = decode_joules.is_some_and(|joules| joules > 0.0);
    let source = meter.energy.as_ref().filter(|_| moved).map(EnergyCounter::source);
    if args.grid.is_some() && source.is_none() {
        settings.output.warn("no energy was measured, so there are no grams of CO2");
    }
    let decode_joules = decode_joules.filter(|_| moved);
    let (prefill_rate, decode_rate) = (Spread::of(&prefill), Spread::of(&decode));
    let machine = Machine::here();
    let (format, stored) = describe(path)?;
    Ok(CellReport {
        model: path.display().to_string(),
        format,
        kv_type: model.network().kv_type().name().to_owned(),
        head_screen_bytes: model.network().head_screen().map(|(bytes, _)| bytes),
        head_share_read: model.network().head_screen().map(|(_, share)| share),
        threads,
        prompt: cell.prompt,
        generate: cell.generate,
        depth: cell.depth,
        batch: cell.batch,
        repeat: rounds.len(),
        prefill_tokens_per_s: prefill_rate.median,
        prefill_tokens_per_s_range: prefill_rate.range(),
        decode_tokens_per_s: decode_rate.median,
        decode_tokens_per_s_range: decode_rate.range(),
        load_s,
        peak_memory_bytes: peak_memory_bytes(),
        stored_weight_bytes: stored,
        weight_bytes: model.network().weight_bytes(),
        kv_cache_bytes: speed.cache_bytes(),
        energy_source: source.unwrap_or_else(|| "none: proxies".to_owned()),
        joules_per_token: decode_joules,
        prefill_joules_per_token: prefill_joules.filter(|_| moved),
        co2_g_per_token: decode_joules.zip(args.grid).map(|(joules, grid)| joules / 3.6e6 * grid),
        cpu_s_per_token: median(&rounds, |round| round.decode.cpu_seconds, new_tokens),
        bytes_read_per_token: bytes_read(&model, cell),
        processor: machine.processor,
        cores: machine.cores,
        kernel_set: settings.kernels.name().to_owned(),
        os: machine.os,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer: peer.map(|peer| Comparison::new(peer.command, &rounds_with_peer(&rounds), &prefill, &decode)),
    })
}

/// One round that is not counted, then the others, each followed by one of the peer.
fn rounds(
    args: &BenchArgs,
    settings: &Settings,
    (speed, meter, cell): (&mut Speedometer, &Meter, Cell),
    peer: Option<&Peer>,
) -> Result<Vec<Round>, Failure> {
    let mut rounds = Vec::with_capacity(args.repeat as usize);
    for index in 0..=args.repeat {
        let what =
            if index == 0 { "warming up".to_owned() } else { format!("round {index} of {}", args.repeat) };
        let Cell { prompt, generate, depth, batch } = cell;
        settings
            .output
            .progress(format!("prompt {prompt}, gen {generate}, depth {depth}, batch {batch}: {what}"));
        let (prefill, decode) = (speed.prefill(meter)?, speed.decode(meter)?);
        if index > 0 {
            let peer = peer.map(|peer| peer.run(&cell)).transpose()?;
            rounds.push(Round { prefill, decode, peer });
        }
    }
    settings.output.progress("");
    Ok(rounds)
}

fn rounds_with_peer(rounds: &[Round]) -> Vec<PeerRates> {
    rounds.iter().filter_map(|round| round.peer).collect()
}

/// Median over the rounds of a quantity per token; `None` if a round lacks it.
fn median(rounds: &[Round], of: impl Fn(&Round) -> Option<f64>, tokens: f64) -> Option<f64> {
    let values: Option<Vec<f64>> = rounds.iter().map(|round| Some(of(round)? / tokens)).collect();
    values.map(|values| Spread::of(&values).median)
}

/// Bytes of weights and cache that one decoded token reads on average: the weights once for all sequences of a step.
fn bytes_read(model: &Model, cell: Cell) -> f64 {
    let positions = cell.depth..cell.depth + cell.generate;
    let values: u64 = positions.map(|position| Cost::kv_values_read(model.config(), position)).sum();
    let cache = model.network().kv_type().bytes(values) as f64 / cell.generate as f64;
    model.network().weight_bytes_per_step() as f64 / cell.batch as f64 + cache
}

/// The format of most weights by name, and the bytes of all as stored.
fn describe(path: &Path) -> Result<(String, u64), Failure> {
    let file = ModelFile::open(path)?;
    let named = match &file {
        ModelFile::Gguf(model) => model.file().u64("general.file_type").ok().flatten().and_then(|id| {
            FileType::all()
                .iter()
                .find(|kind| u64::from(kind.gguf_id()) == id)
                .map(|kind| kind.name().to_owned())
        }),
        ModelFile::Folder(_) => None,
    };
    let format = match named {
        Some(name) => name,
        None => first_matrix(&file, file.config())?,
    };
    Ok((format, file.weight_bytes()))
}

/// The type of the first layer's gate projection.
fn first_matrix(source: &dyn shakti_model::TensorSource, config: &ModelConfig) -> Result<String, Failure> {
    let specs = config.parameters();
    let gate = specs.iter().find(|spec| spec.name.ends_with("gate_proj.weight"));
    let spec = gate.ok_or_else(|| Failure::internal("no gate projection among the parameters"))?;
    let tensor = source.tensor(spec).map_err(|error| Failure::bad_input(error.to_string()))?;
    Ok(tensor.dtype.to_string())
}

impl BenchArgs {
    fn energy_counter(&self, settings: &Settings) -> Option<EnergyCounter> {
        EnergyCounter::open(&self.powercap).unwrap_or_else(|error| {
            settings.output.warn(format!("the energy counter cannot be read: {error}"));
            None
        })
    }

    fn peer(&self, threads: usize, cell: &Cell) -> Option<Peer> {
        let peer = Peer {
            command: self.peer.clone()?,
            prefill_key: self.peer_prefill_key.clone(),
            decode_key: self.peer_decode_key.clone(),
        };
        Some(peer.expand(&self.model().display().to_string(), threads, cell))
    }
}
