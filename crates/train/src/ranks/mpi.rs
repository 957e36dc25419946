//! Ranks that `mpirun` started.
//!
//! One thread makes every MPI call, in the order in which they were asked for: sums go on while the trainer computes, and no
//! more than `MPI_THREAD_FUNNELED` is needed of the library.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use mpi::Threading;
use mpi::datatype::{Partition, PartitionMut};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Root, Source};

use super::{Pending, Ranks};

/// What the thread is asked to do.
enum Request {
    Reduce { values: Vec<f32>, root: usize, done: Sender<Vec<f32>> },
    Broadcast { values: Vec<f32>, root: usize, done: Sender<Vec<f32>> },
    Gather { numbers: Vec<f64>, done: Sender<Vec<f64>> },
    Send { bytes: Vec<u8>, from: usize, done: Sender<Vec<u8>> },
    Abort { code: i32 },
}

/// The processes of one `mpirun`.
#[derive(Debug)]
pub struct Mpi {
    rank: usize,
    size: usize,
    /// `None` only while dropped.
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Mpi {
    /// Joins the other processes; `None` if MPI was begun before in this one, or lends too few threads.
    pub fn start() -> Option<Self> {
        let (requests, receive) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let run = move || {
            let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Funneled) else {
                return;
            };
            if threading < Threading::Funneled {
                return;
            }
            let world = universe.world();
            let place = (world.rank() as usize, world.size() as usize);
            if ready.send(place).is_ok() {
                serve(&world, &receive);
            }
        };
        let thread = std::thread::Builder::new().name("mpi".into()).spawn(run).ok()?;
        let (rank, size) = started.recv().ok()?;
        Some(Self { rank, size, requests: Some(requests), thread: Some(thread) })
    }

    /// Ends all processes with this code; for an error that only one of them has met, and that the others would wait for.
    pub fn abort(&self, code: i32) -> ! {
        self.ask(Request::Abort { code });
        loop {
            std::thread::park();
        }
    }

    fn ask(&self, request: Request) {
        let requests = self.requests.as_ref().expect("asked before it is dropped");
        requests.send(request).expect("the thread serves until it is dropped");
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn reduce(&self, values: Vec<f32>, root: usize) -> Pending {
        let (done, receive) = mpsc::channel();
        self.ask(Request::Reduce { values, root, done });
        Pending(receive)
    }

    fn broadcast(&self, values: &mut [f32], root: usize) {
        let (done, receive) = mpsc::channel();
        // Only the root's values matter.
        let sent = if self.rank == root { values.to_vec() } else { vec![0.0; values.len()] };
        self.ask(Request::Broadcast { values: sent, root, done });
        values.copy_from_slice(&Pending(receive).wait());
    }

    fn gather(&self, numbers: &[f64]) -> Vec<f64> {
        let (done, receive) = mpsc::channel();
        self.ask(Request::Gather { numbers: numbers.to_vec(), done });
        receive.recv().expect("the thread serves until it is dropped")
    }

    fn send_to_first(&self, bytes: Vec<u8>, from: usize) -> Vec<u8> {
        let (done, receive) = mpsc::channel();
        self.ask(Request::Send { bytes, from, done });
        receive.recv().expect("the thread serves until it is dropped")
    }
}

/// Number of the messages between two ranks; there is one kind.
const TAG: i32 = 1;

/// Does what is asked, in order, until nobody can ask any more. Who asked may be gone: then nobody waits for the answer.
fn serve(world: &SimpleCommunicator, requests: &Receiver<Request>) {
    for request in requests {
        match request {
            Request::Reduce { values, root, done } => _ = done.send(reduce(world, &values, root)),
            Request::Broadcast { mut values, root, done } => {
                world.process_at_rank(root as i32).broadcast_into(&mut values[..]);
                _ = done.send(values);
            }
            Request::Gather { numbers, done } => {
                let mut all = vec![0.0; numbers.len() * world.size() as usize];
                world.all_gather_into(&numbers[..], &mut all[..]);
                _ = done.send(all);
            }
            Request::Send { bytes, from, done } => _ = done.send(send_to_first(world, bytes, from)),
            Request::Abort { code } => world.abort(code),
        }
    }
}

fn send_to_first(world: &SimpleCommunicator, bytes: Vec<u8>, from: usize) -> Vec<u8> {
    match (world.rank() as usize, from) {
        (0, 0) => bytes,
        (0, from) => world.process_at_rank(from as i32).receive_vec_with_tag(TAG).0,
        (rank, from) if rank == from => {
            world.process_at_rank(0).send_with_tag(&bytes[..], TAG);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// Each rank sums a share of the values of all, in their order; the root gathers the shares. As many bytes travel as in
/// the library's own reduction, whose order is its own.
fn reduce(world: &SimpleCommunicator, values: &[f32], root: usize) -> Vec<f32> {
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let starts: Vec<usize> = (0..=size).map(|rank| values.len() * rank / size).collect();
    let counts: Vec<i32> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as i32).collect();
    let offsets: Vec<i32> = starts[..size].iter().map(|start| *start as i32).collect();
    let own = counts[rank] as usize;
    let mut shares = vec![0.0_f32; own * size];
    let places: Vec<i32> = (0..size).map(|rank| (rank * own) as i32).collect();
    let equal = vec![own as i32; size];
    {
        let send = Partition::new(values, &counts[..], &offsets[..]);
        let mut receive = PartitionMut::new(&mut shares[..], &equal[..], &places[..]);
        world.all_to_all_varcount_into(&send, &mut receive);
    }
    let (sum, others) = shares.split_at_mut(own);
    for share in others.chunks_exact(own.max(1)) {
        sum.iter_mut().zip(share).for_each(|(sum, value)| *sum += value);
    }
    let target = world.process_at_rank(root as i32);
    if rank != root {
        target.gather_varcount_into(&*sum);
        return Vec::new();
    }
    let mut whole = vec![0.0; values.len()];
    let mut receive = PartitionMut::new(&mut whole[..], &counts[..], &offsets[..]);
    target.gather_varcount_into_root(&*sum, &mut receive);
    drop(receive);
    whole
}
