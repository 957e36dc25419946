//! What is measured on blocks in memory is what the exported file gives, to the last bit.

use std::sync::Arc;

use shakti_checkpoint::{ExportTokenizer, GgufExport, ModelFile, Overwrite, TokenizerSource};
use shakti_engine::{Network, ScoredWindow};
use shakti_kernels::{Cpu, KernelSet};
use shakti_model::{Layout, ParamSpec, Parameters, preset};
use shakti_quant::{FileType, Options, QuantizedModel, plan};

#[test]
fn blocks_in_memory_and_the_exported_file_have_the_same_loss() {
    let mut config = preset("shakti-nano").unwrap();
    (config.num_hidden_layers, config.vocab_size) = (2, 300);
    config.num_kv_heads = vec![4, 2];
    config.layer_types.truncate(2);
    config.initializer_range = 0.1;
    let params = Parameters::init(&config, Arc::new(Layout::new(&config)), 11);
    // Any vocabulary will do: the loss is over ids.
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/gguf/bpe_q4_k_m.gguf");
    let vocabulary = ModelFile::open(golden).unwrap();
    let TokenizerSource::Gguf(vocabulary) = vocabulary.tokenizer() else { unreachable!("a GGUF file") };
    let ids: Vec<u32> = (0..64).map(|index| (index * 7919 + index * index) % 300).collect();
    let windows = [ScoredWindow { ids: &ids, scored_from: 1 }];
    let folder = tempfile::tempdir().unwrap();
    for set in KernelSet::available() {
        let cpu = Arc::new(Cpu::new(set, 2));
        let mut losses = Vec::new();
        for kind in FileType::all() {
            let plan = plan(&config, *kind, None);
            let model = QuantizedModel::new(&cpu, &params, &plan, Options::default(), |_| {}).unwrap();
            let path = folder.path().join(format!("{kind}-{}.gguf", set.name()));
            let dtype =
                |spec: &ParamSpec| plan.iter().find(|tensor| tensor.spec.name == spec.name).unwrap().dtype;
            let tokenizer = ExportTokenizer::CopyOf(vocabulary);
            let export = GgufExport {
                config: &config,
                name: "test",
                file_type: kind.gguf_id(),
                dtype: &dtype,
                tokenizer,
                extra: &[],
            };
            export.write(&path, Overwrite::Refuse, &model).unwrap();
            let file = ModelFile::open(&path).unwrap();
            let in_memory =
                Network::load(config.clone(), &model, cpu.clone()).unwrap().losses(&windows).unwrap();
            let exported =
                Network::load(file.config().clone(), &file, cpu.clone()).unwrap().losses(&windows).unwrap();
            assert_eq!(in_memory, exported, "{kind}, {}", set.name());
            losses.push(exported[0].nats);
        }
        losses.sort_by(f64::total_cmp);
        losses.dedup();
        assert!(losses.len() > 8, "formats round differently, so their losses differ: {losses:?}");
    }
}
