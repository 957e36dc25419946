//! The optimizer step, the loop, schedules, objectives and exact resumption.
