//! The processes that `mpirun` or `srun` started to train together, if they did.

use shakti_train::ranks::Ranks;

use crate::failure::Failure;

/// How many processes were started, as the launchers of MPI say it; 1 where none did.
fn started() -> usize {
    let number = |name| std::env::var(name).ok().and_then(|text| text.trim().parse().ok());
    let by_slurm = || std::env::var_os("PMIX_RANK").and_then(|_| number("SLURM_NTASKS"));
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].into_iter().find_map(number).or_else(by_slurm).unwrap_or(1)
}

/// The processes that train together, this one among them.
pub struct Together {
    #[cfg(feature = "mpi")]
    mpi: shakti_train::ranks::mpi::Mpi,
    #[cfg(not(feature = "mpi"))]
    never: std::convert::Infallible,
}

impl Together {
    /// Joins the others; `None` where this process is alone.
    ///
    /// # Errors
    /// Several processes, and no MPI in this build or none that works.
    pub fn join() -> Result<Option<Self>, Failure> {
        let size = started();
        if size < 2 {
            return Ok(None);
        }
        #[cfg(feature = "mpi")]
        match shakti_train::ranks::mpi::Mpi::start() {
            Some(mpi) => Ok(Some(Self { mpi })),
            None => Err(Failure::internal("MPI cannot be started in this process")),
        }
        #[cfg(not(feature = "mpi"))]
        Err(Failure::bad_input(format!(
            "one of {size} processes that would all train the same run by themselves"
        ))
        .hint("build with `--features mpi` to train together, or start one process"))
    }

    /// As the trainer takes them.
    pub fn ranks(&self) -> &dyn Ranks {
        #[cfg(feature = "mpi")]
        return &self.mpi;
        #[cfg(not(feature = "mpi"))]
        match self.never {}
    }

    /// Whether this process prints.
    pub fn leads(&self) -> bool {
        self.ranks().rank() == 0
    }

    /// Ends all processes: the others may wait for this one.
    pub fn abort(&self, failure: &Failure) {
        if !self.leads() {
            // Where all have met the same error, rank 0 says it.
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        crate::output::complain(&format!("rank {}: {}", self.ranks().rank(), failure.message()));
        #[cfg(feature = "mpi")]
        self.mpi.abort(failure.code());
    }
}
