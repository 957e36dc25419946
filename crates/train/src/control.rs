//! What a run learns from its validations: which steps were best, and whether it still gets better.

use crate::log::LogLine;
use crate::recipe::ControlSection;

/// The validations of a run so far. They stand in its log, so a resumed run knows them too.
#[derive(Debug)]
pub(crate) struct Validations {
    settings: ControlSection,
    /// Step and loss, in order.
    losses: Vec<(u64, f64)>,
}

impl Validations {
    /// Those that a log holds.
    pub fn new(settings: ControlSection, log: &[LogLine]) -> Self {
        let losses = log.iter().filter_map(|line| Some((line.step, line.validation_loss?))).collect();
        Self { settings, losses }
    }

    /// Adds one.
    pub fn push(&mut self, step: u64, loss: f64) {
        self.losses.push((step, loss));
    }

    /// The steps of the `keep_best` lowest losses, best first; of equal ones the earlier.
    pub fn best_steps(&self) -> Vec<u64> {
        let mut losses = self.losses.clone();
        losses.sort_by(|a, b| a.1.total_cmp(&b.1));
        losses.iter().take(self.settings.keep_best).map(|(step, _)| *step).collect()
    }

    /// Step and loss of the best validation.
    pub fn best(&self) -> Option<(u64, f64)> {
        self.losses.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Whether as many validations as `patience` says brought nothing better.
    pub fn exhausted(&self) -> bool {
        let (mut best, mut worse) = (f64::INFINITY, 0);
        for (_, loss) in &self.losses {
            if *loss < best - self.settings.min_improvement {
                (best, worse) = (*loss, 0);
            } else {
                worse += 1;
            }
        }
        self.settings.patience > 0 && worse >= self.settings.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validations(settings: ControlSection, losses: &[f64]) -> Validations {
        let mut validations = Validations::new(settings, &[]);
        losses.iter().enumerate().for_each(|(index, loss)| validations.push(10 * (index as u64 + 1), *loss));
        validations
    }

    #[test]
    fn patience_counts_validations_since_the_last_better_one() {
        let patience =
            |patience, min_improvement| ControlSection { patience, min_improvement, ..Default::default() };
        let falling = [3.0, 2.0, 2.5, 2.4, 1.9];
        assert!(!validations(patience(2, 0.0), &falling).exhausted());
        assert!(validations(patience(2, 0.0), &falling[..4]).exhausted());
        // 1.9 is not better than 2.0 by 0.2.
        assert!(validations(patience(3, 0.2), &falling).exhausted());
        assert!(!validations(patience(0, 0.0), &[1.0; 50]).exhausted());
        assert!(validations(patience(1, 0.0), &[1.0, 1.0]).exhausted());
        assert!(validations(patience(1, 0.0), &[1.0, f64::NAN]).exhausted());
    }

    #[test]
    fn the_best_are_the_lowest_and_of_equals_the_first() {
        let settings = ControlSection { keep_best: 2, ..Default::default() };
        let found = validations(settings, &[3.0, 2.0, 2.5, 2.0, 2.2]);
        assert_eq!(found.best_steps(), [20, 40]);
        assert_eq!(found.best(), Some((20, 2.0)));
        assert_eq!(validations(settings, &[]).best(), None);
    }
}
