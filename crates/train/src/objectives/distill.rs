//! Distillation from texts and answers (`[distill]`): a teacher's likeliest tokens at every place, computed once and kept in the
//! run folder, so that the teacher is not in memory while the run trains.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use shakti_data::{Batch, Position, Shuffled};
use shakti_engine::Network;
use shakti_model::{Direction, End, LossSum, Teacher};

use super::{Measures, Objective, Validation};
use crate::TrainError;
use crate::observer::{Event, Observer};
use crate::recipe::{DistillSection, Divergence};
use crate::run_folder::{RunFolder, TEACHER_FILE};
use crate::trainer::{StepResult, Trainer, rows, targets};

/// Learns what a teacher says.
pub(crate) struct Distill {
    section: DistillSection,
    teacher: Option<Arc<Network>>,
    train: Vec<Batch>,
    validation: Vec<Batch>,
    order: Shuffled,
    micro_batches: usize,
    cache: Option<Cache>,
}

/// What the teacher says of the rows of a batch that count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
}

impl Said {
    /// Asks the teacher.
    pub fn of(teacher: &Network, batch: &Batch, k: usize) -> Result<Self, TrainError> {
        let rows = rows(batch);
        let pair = (shakti_model::Batch { tokens: &batch.tokens, rows: &rows }, targets(batch));
        let (ids, log_probs) = teacher.likeliest(pair, k)?;
        Ok(Self { ids, log_probs })
    }

    /// With zeros for the rows that do not count.
    pub fn whole(&self, batch: &Batch, k: usize) -> Self {
        let mut whole =
            Self { ids: vec![0; k * batch.tokens.len()], log_probs: vec![0.0; k * batch.tokens.len()] };
        let counted = (0..batch.tokens.len()).filter(|row| batch.weights[*row] != 0.0);
        for ((row, ids), log_probs) in counted.zip(self.ids.chunks(k)).zip(self.log_probs.chunks(k)) {
            whole.ids[row * k..(row + 1) * k].copy_from_slice(ids);
            whole.log_probs[row * k..(row + 1) * k].copy_from_slice(log_probs);
        }
        whole
    }

    /// As a pass takes it; `self` is [`Said::whole`].
    pub fn teacher<'a>(&'a self, section: &DistillSection, batch: &'a Batch) -> Teacher<'a> {
        let direction = match section.divergence {
            Divergence::Forward => Direction::Forward,
            Divergence::Reverse => Direction::Reverse,
        };
        Teacher {
            targets: targets(batch),
            ids: &self.ids,
            log_probs: &self.log_probs,
            direction,
            hard_share: section.hard_share as f32,
        }
    }
}

impl Distill {
    /// From the beginning of the shuffled order of the training batches.
    pub fn new(
        section: DistillSection,
        teacher: Arc<Network>,
        (train, validation): (Vec<Batch>, Vec<Batch>),
        order: Shuffled,
        micro_batches: usize,
    ) -> Self {
        Self { section, teacher: Some(teacher), train, validation, order, micro_batches, cache: None }
    }

    fn said(&self, index: usize, batch: &Batch) -> Result<Said, TrainError> {
        match &self.cache {
            Some(cache) => Ok(cache.read(index)?.whole(batch, self.section.k)),
            None => Ok(Said::default()),
        }
    }
}

impl Objective for Distill {
    fn begin(
        &mut self,
        _trainer: &Trainer<'_>,
        folder: &RunFolder,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Some(teacher) = self.teacher.take() else { return Ok(()) };
        let batches = || self.train.iter().chain(&self.validation);
        let key = format!(
            "{} {} {}",
            self.order.position().fingerprint,
            self.section.k,
            self.section.teacher.display()
        );
        let path = folder.path().join(TEACHER_FILE);
        let cache = match Cache::open(&path, &key, self.section.k, batches())? {
            Some(cache) => cache,
            None => {
                observer.event(&Event::Reference);
                let said = |batch: &Batch| Said::of(&teacher, batch, self.section.k);
                Cache::write(&path, &key, batches(), &said)?;
                Cache::open(&path, &key, self.section.k, batches())?
                    .ok_or_else(|| TrainError::checkpoint(&path, "is not what was just written"))?
            }
        };
        self.cache = Some(cache);
        Ok(())
    }

    fn step(&mut self, trainer: &mut Trainer<'_>) -> Result<(StepResult, Measures), TrainError> {
        let indices: Vec<usize> = (0..self.micro_batches).map(|_| self.order.next_index()).collect();
        let total: f64 = indices.iter().map(|index| self.train[*index].num_targets() as f64).sum();
        let (mut sum, mut tokens) = (LossSum::default(), 0);
        trainer.begin();
        for (micro, index) in indices.into_iter().enumerate() {
            let batch = &self.train[index];
            let said = self.said(index, batch)?;
            let end = End::Teacher(said.teacher(&self.section, batch));
            let loss = trainer.add((micro, batch), (1.0 / total) as f32, end)?;
            sum.nats += loss.nats;
            sum.weight += loss.weight;
            tokens += batch.tokens.len() as u64;
        }
        Ok((trainer.update(sum.mean(), tokens)?, Measures::new()))
    }

    /// The loss is that of the data, as for other stages; the divergence stands beside.
    fn validate(&self, trainer: &Trainer<'_>) -> Result<Option<Validation>, TrainError> {
        if self.validation.is_empty() {
            return Ok(None);
        }
        let mut apart = LossSum::default();
        for (index, batch) in self.validation.iter().enumerate() {
            let said = self.said(self.train.len() + index, batch)?;
            let section = DistillSection { hard_share: 0.0, ..self.section.clone() };
            let loss = trainer.teacher_loss(batch, said.teacher(&section, batch))?;
            apart.nats += loss.nats;
            apart.weight += loss.weight;
        }
        let measures = Measures::from([("divergence".to_owned(), apart.mean())]);
        Ok(Some(Validation { loss: trainer.validate(&self.validation)?.mean(), measures }))
    }

    fn position(&self) -> Position {
        self.order.position()
    }

    fn restore(&mut self, position: &Position) -> Result<(), TrainError> {
        Ok(self.order.restore(position)?)
    }
}

/// A file of what the teacher said of every batch: a line that tells of what, then for each batch ids (u32) and
/// log-probabilities (f32), little-endian.
struct Cache {
    file: File,
    path: std::path::PathBuf,
    /// Start of each batch, and the end.
    offsets: Vec<u64>,
}

fn counted(batch: &Batch, k: usize) -> u64 {
    (8 * k * batch.num_targets()) as u64
}

impl Cache {
    /// Opens a file that tells of this; `None` if there is none.
    fn open<'a>(
        path: &Path,
        key: &str,
        k: usize,
        batches: impl Iterator<Item = &'a Batch>,
    ) -> Result<Option<Self>, TrainError> {
        let Ok(mut file) = File::open(path) else { return Ok(None) };
        let head = format!("shakti teacher 1 {key}\n");
        let mut offsets = vec![head.len() as u64];
        for batch in batches {
            offsets.push(offsets[offsets.len() - 1] + counted(batch, k));
        }
        let mut found = vec![0; head.len()];
        let read = file.read_exact(&mut found);
        let len = file.metadata().map_err(TrainError::file(path, "read"))?.len();
        let fits = read.is_ok() && found == head.as_bytes() && len == offsets[offsets.len() - 1];
        Ok(fits.then(|| Self { file, path: path.into(), offsets }))
    }

    /// Writes it beside its place first, so that a kill leaves no half of it.
    fn write<'a>(
        path: &Path,
        key: &str,
        batches: impl Iterator<Item = &'a Batch>,
        said: &dyn Fn(&Batch) -> Result<Said, TrainError>,
    ) -> Result<(), TrainError> {
        let beside = path.with_extension("tmp");
        let failed = |action| TrainError::file(&beside, action);
        let mut file = BufWriter::new(File::create(&beside).map_err(failed("create"))?);
        writeln!(file, "shakti teacher 1 {key}").map_err(failed("write"))?;
        for batch in batches {
            let Said { ids, log_probs } = said(batch)?;
            let words = ids.into_iter().chain(log_probs.into_iter().map(f32::to_bits));
            let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
            file.write_all(&bytes).map_err(failed("write"))?;
        }
        let file = file.into_inner().map_err(|error| failed("write")(error.into_error()))?;
        file.sync_all().map_err(failed("flush"))?;
        std::fs::rename(&beside, path).map_err(TrainError::file(path, "rename the file to"))
    }

    fn read(&self, index: usize) -> Result<Said, TrainError> {
        let mut bytes = vec![0; (self.offsets[index + 1] - self.offsets[index]) as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.offsets[index])).map_err(TrainError::file(&self.path, "read"))?;
        file.read_exact(&mut bytes).map_err(TrainError::file(&self.path, "read"))?;
        let mut words: Vec<u32> =
            bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let log_probs = words.split_off(words.len() / 2).into_iter().map(f32::from_bits).collect();
        Ok(Said { ids: words, log_probs })
    }
}
