//! Processes that `mpirun` started: they train together where the program was built with MPI, and are refused where not.

#[cfg(not(feature = "mpi"))]
#[test]
fn processes_of_mpirun_are_refused_without_mpi() {
    let data = crate::train::data();
    let recipe = data.path().join("recipe.toml");
    let output = crate::common::command()
        .args(["train", "pretrain", crate::common::arg(&recipe)])
        .env("OMPI_COMM_WORLD_SIZE", "4")
        .output()
        .expect("the binary runs");
    let refused = crate::common::Run::new(output).refused();
    assert!(refused.contains("one of 4 processes") && refused.contains("--features mpi"), "{refused}");
    assert!(!data.path().join("out").exists());
}

#[cfg(feature = "mpi")]
mod together {
    use std::path::Path;
    use std::process::Command;

    use shakti_train::Log;

    use crate::common::{Run, arg, shakti};
    use crate::train::data;

    /// `mpirun` with these arguments; ranks share the cores of the test's machine.
    fn mpirun(args: &[&str]) -> Run {
        let mut command = Command::new("mpirun");
        command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]).args(args);
        Run::new(command.output().expect("mpirun is installed where the program is built with MPI"))
    }

    fn losses(out: &Path) -> Vec<f64> {
        Log::read(out).expect("a log").iter().map(|line| line.loss).collect()
    }

    /// The files of a finished model.
    fn model(out: &Path) -> Vec<u8> {
        std::fs::read(out.join("model/model.safetensors")).expect("a model")
    }

    #[test]
    fn four_processes_train_as_one_does_and_repeat_their_bits() {
        let data = data();
        let recipe = data.path().join("recipe.toml");
        let dir = |name: &str| format!("output.dir={}", data.path().join(name).display());
        let run = |name: &str, ranks: &str| {
            let dir = dir(name);
            let shared = [
                "--threads",
                "1",
                "train",
                "pretrain",
                arg(&recipe),
                "--set",
                "train.micro_batch_tokens=64",
                "--set",
                "train.precision=f32",
                "--set",
                &dir,
            ];
            match ranks {
                "1" => shakti(&shared[2..]).ok(),
                _ => mpirun(&[&["-n", ranks, env!("CARGO_BIN_EXE_shakti")], &shared[..]].concat()).ok(),
            }
        };
        run("one", "1");
        let said = run("four", "4");
        assert_eq!(said.matches("model: ").count(), 1, "rank 0 alone prints: {said}");
        run("again", "4");
        let at = |name: &str| data.path().join(name);
        let (one, four) = (losses(&at("one")), losses(&at("four")));
        assert_eq!((one.len(), four.len()), (12, 12));
        let gap = one.iter().zip(&four).map(|(a, b)| (a - b).abs() / a).fold(0.0, f64::max);
        assert!(gap < 1e-5, "{gap}");
        assert_eq!(losses(&at("again")), four);
        assert!(model(&at("again")) == model(&at("four")), "the same bits");
    }

    #[test]
    fn an_error_of_one_process_ends_all() {
        let data = data();
        let recipe = data.path().join("recipe.toml");
        let program = env!("CARGO_BIN_EXE_shakti");
        let missing = format!("data.split_with=['{}/absent.jsonl']", data.path().display());
        let train = [program, "--threads", "1", "train", "pretrain", arg(&recipe)];
        let run =
            mpirun(&[&["-n", "1"], &train[..], &[":", "-n", "1"], &train[..], &["--set", &missing]].concat());
        assert_ne!(run.code, Some(0));
        assert!(
            run.stderr.contains("rank 1: error") && run.stderr.contains("absent.jsonl"),
            "{}",
            run.stderr
        );
    }
}
