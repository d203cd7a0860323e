//! Places for jobs, each with its share of the devices.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places of an agent.
pub(super) struct Slots {
    free: Arc<Mutex<Vec<Vec<String>>>>,
    count: Arc<Semaphore>,
}

/// A place that is taken; it is free again when this is dropped.
pub(super) struct Slot {
    pub(super) devices: Vec<String>,
    free: Arc<Mutex<Vec<Vec<String>>>>,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(super) fn new(count: u32, devices: &[String]) -> Self {
        let share = devices.len() / count as usize;
        let free = (0..count as usize).map(|i| devices[i * share..(i + 1) * share].to_vec()).rev().collect();
        Self { free: Arc::new(Mutex::new(free)), count: Arc::new(Semaphore::new(count as usize)) }
    }

    pub(super) async fn take(&self) -> Slot {
        let permit = self.count.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.slot(permit, |_| true)
    }

    /// Places for a job that is there already: all those that have one of its devices, so that nobody else gets them;
    /// any for a job without. It runs even when there are more jobs than places.
    pub(super) fn take_for(&self, devices: &[String]) -> Vec<Slot> {
        let shares = |share: &Vec<String>| share.iter().any(|device| devices.contains(device));
        let wanted = self.free.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|s| shares(s)).count();
        let permit = || self.count.clone().try_acquire_owned().ok();
        let mut taken: Vec<Slot> = (0..wanted).map_while(|_| Some(self.slot(permit()?, shares))).collect();
        if taken.is_empty() {
            taken.extend(permit().map(|permit| self.slot(permit, |_| true)));
        }
        taken
    }

    /// The last free place that fits, or the last one.
    fn slot(&self, permit: OwnedSemaphorePermit, fits: impl Fn(&Vec<String>) -> bool) -> Slot {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = free.iter().rposition(fits).or(free.len().checked_sub(1));
        let devices = at.map(|at| free.remove(at)).unwrap_or_default();
        drop(free);
        Slot { devices, free: self.free.clone(), _permit: permit }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let devices = std::mem::take(&mut self.devices);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(devices);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[tokio::test]
    async fn a_job_that_was_found_again_keeps_its_devices_to_itself() {
        let slots = Slots::new(2, &devices(&["0", "1"]));
        let found = slots.take_for(&devices(&["1"]));
        assert_eq!(found.iter().map(|slot| slot.devices.clone()).collect::<Vec<_>>(), [devices(&["1"])]);
        let other = slots.take().await;
        assert_eq!(other.devices, devices(&["0"]));
        drop((found, other));
        // The machine is shared out anew: the job holds all the places that it could meet others in.
        let slots = Slots::new(3, &devices(&["0", "1", "2"]));
        let found = slots.take_for(&devices(&["0", "1"]));
        assert_eq!(found.len(), 2);
        assert_eq!(slots.take().await.devices, devices(&["2"]));
        drop(found);
        // And a job without devices takes a place all the same.
        let slots = Slots::new(1, &[]);
        let (first, second) = (slots.take_for(&[]), slots.take_for(&[]));
        assert_eq!((first.len(), second.len()), (1, 0));
    }
}
