use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::*;

/// Turns the ring until `ready` answers. Fails after about 10 s.
fn turn_until<T>(ring: &Ring, mut ready: impl FnMut(&Context<'_>) -> Poll<T>) -> T {
    for _ in 0..1000 {
        if let Poll::Ready(value) = ready(&Context::from_waker(Waker::noop())) {
            return value;
        }
        ring.turn(Some(Duration::from_millis(10)));
    }
    panic!("nothing came in 10 s");
}

fn ring() -> Ring {
    RelayRing::new(Arc::default()).unwrap()
}

#[test]
fn o5_a_receive_without_a_buffer_goes_on_although_all_were_given_back_before_it_was_asked() {
    // Which of the receives get no buffer is the kernel's choice: the first, or the last.
    for reverse in [false, true] {
        starve(reverse);
    }
}

/// More receives than buffers, looked at in order or in reverse.
fn starve(reverse: bool) {
    let ring = ring();
    let pairs: Vec<_> =
        (0..usize::from(limits::RECV_BUFFERS) + 8).map(|_| UnixStream::pair().unwrap()).collect();
    let mut receives: Vec<_> = pairs.iter().map(|(near, _)| ring.receive(near)).collect();
    for (_, far) in &pairs {
        (&*far).write_all(b"x").unwrap();
    }
    // Polled once, and then only when woken, as an executor does.
    let woken: Vec<Arc<Woken>> = pairs.iter().map(|_| Arc::new(Woken(AtomicBool::new(true)))).collect();
    let mut waiting: Vec<usize> = (0..receives.len()).collect();
    if reverse {
        waiting.reverse();
    }
    for _ in 0..100 {
        waiting.retain(|&i| {
            if !woken[i].0.swap(false, Ordering::Relaxed) {
                return true;
            }
            let waker = Waker::from(woken[i].clone());
            receives[i].poll_next(&Context::from_waker(&waker)).is_pending()
        });
        if waiting.is_empty() {
            assert!(ring.counters.no_buffers.get() > 0, "the buffers were enough: nothing was tested");
            return;
        }
        ring.turn(Some(Duration::from_millis(10)));
    }
    panic!("{} receives wait for ever", waiting.len());
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn o3_a_dropped_receive_gives_back_its_buffers_and_its_slot() {
    let ring = ring();
    for round in 0..usize::from(limits::RECV_BUFFERS) + 100 {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut receives = ring.receive(&near);
        assert!(receives.poll_next(&Context::from_waker(Waker::noop())).is_pending());
        far.write_all(b"lost").unwrap();
        if round % 2 == 0 {
            // The first may bring only the cancellation of the round before.
            (0..3).for_each(|_| ring.turn(Some(Duration::from_millis(5))));
            assert_eq!(receives.discard(), 4, "round {round}");
        }
        drop(receives);
        ring.close(near.into());
    }
    turn_until(&ring, |_| if ring.inner.borrow().slots.len() == 0 { Poll::Ready(()) } else { Poll::Pending });
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut receives = ring.receive(&near);
    far.write_all(b"kept").unwrap();
    match turn_until(&ring, |context| receives.poll_next(context)) {
        Received::Data(chunk) => assert_eq!(chunk.bytes(), b"kept"),
        _ => panic!("no bytes"),
    }
    assert_eq!(ring.counters.no_buffers.get(), 0);
}

#[test]
fn o3_a_dropped_accept_closes_the_connections_nobody_took() {
    let ring = ring();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut accepts = ring.accept(&listener);
    assert!(accepts.poll_next(&Context::from_waker(Waker::noop())).is_pending());
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    ring.turn(Some(Duration::from_millis(100)));
    drop(accepts);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_stopped_receive_returns_what_came_then_stops_then_starts_again() {
    let ring = ring();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut receives = ring.receive(&near);
    assert!(receives.poll_next(&Context::from_waker(Waker::noop())).is_pending());
    far.write_all(b"before").unwrap();
    ring.turn(Some(Duration::from_millis(100)));
    receives.stop();
    let mut got = Vec::new();
    loop {
        match turn_until(&ring, |context| receives.poll_next(context)) {
            Received::Data(chunk) => got.extend_from_slice(chunk.bytes()),
            Received::Stopped => break,
            _ => panic!("neither bytes nor stopped"),
        }
    }
    assert_eq!(got, b"before");
    far.write_all(b"after").unwrap();
    match turn_until(&ring, |context| receives.poll_next(context)) {
        Received::Data(chunk) => assert_eq!(chunk.bytes(), b"after"),
        _ => panic!("no bytes"),
    }
}

#[test]
fn o2_o4_a_descriptor_closed_and_used_again_never_gets_the_bytes_of_the_old_one() {
    let ring = ring();
    for round in 0..500u32 {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(&round.to_ne_bytes()).unwrap();
        let mut receives = ring.receive(&near);
        if round % 3 == 0 {
            // Queued for the kernel, or already with it, when the descriptor goes.
            assert!(receives.poll_next(&Context::from_waker(Waker::noop())).is_pending());
            if round % 2 == 0 {
                ring.turn(Some(Duration::from_millis(10)));
            }
            drop(receives);
            ring.close(near.into());
            continue;
        }
        match turn_until(&ring, |context| receives.poll_next(context)) {
            Received::Data(chunk) => assert_eq!(chunk.bytes(), round.to_ne_bytes()),
            _ => panic!("round {round}: no bytes"),
        }
        drop(receives);
        ring.close(near.into());
    }
}

#[test]
fn a_sparing_receive_takes_one_buffer_and_then_none_until_it_is_asked() {
    let ring = ring();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut receives = ring.receive(&near);
    assert!(receives.poll_next(&Context::from_waker(Waker::noop())).is_pending());
    ring.turn(Some(Duration::from_millis(1)));
    // Armed for all that comes by now.
    receives.spare(true);
    let sent: Vec<u8> = (0..3 * limits::RECV_BUFFER_BYTES).map(|i| (i % 251) as u8).collect();
    far.write_all(&sent).unwrap();
    let mut got = Vec::new();
    while got.len() < sent.len() {
        match turn_until(&ring, |context| receives.poll_next(context)) {
            Received::Data(chunk) => got.extend_from_slice(chunk.bytes()),
            _ => panic!("no bytes"),
        }
        (0..3).for_each(|_| ring.turn(Some(Duration::from_millis(1))));
        let more = receives.discard();
        assert_eq!(more, 0, "{more} bytes more than one buffer");
    }
    assert_eq!(got, sent);
    receives.spare(false);
    far.write_all(b"again").unwrap();
    match turn_until(&ring, |context| receives.poll_next(context)) {
        Received::Data(chunk) => assert_eq!(chunk.bytes(), b"again"),
        _ => panic!("no bytes"),
    }
}

#[test]
fn o3_bytes_that_come_after_a_receive_was_given_up_are_counted() {
    let ring = ring();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut receives = ring.receive(&near);
    assert!(receives.poll_next(&Context::from_waker(Waker::noop())).is_pending());
    ring.turn(Some(Duration::from_millis(1)));
    // The kernel has received it before it hears that nobody wants it.
    far.write_all(b"too late").unwrap();
    assert_eq!(receives.discard(), 0);
    turn_until(&ring, |_| if ring.inner.borrow().slots.len() == 0 { Poll::Ready(()) } else { Poll::Pending });
    let unread = rustix::io::ioctl_fionread(&near).unwrap();
    assert_eq!(ring.counters.bytes_orphaned.get() + unread, 8, "neither received nor left in the socket");
}

/// A ring that takes entries and can never submit them.
#[test]
fn an_operation_that_cannot_be_submitted_fails_and_a_close_still_closes() {
    let disabled = IoUring::builder().setup_r_disabled().build(2).unwrap();
    let ring = RelayRing::over(disabled, Files::new(true), Arc::default()).unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut polls: Vec<_> = (0..2).map(|_| ring.poll(&near, libc::POLLIN)).collect();
    assert!(
        polls.iter_mut().all(|poll| Pin::new(poll).poll(&mut context).is_pending()),
        "there is room for two"
    );
    let Poll::Ready(result) = Pin::new(&mut ring.poll(&near, libc::POLLIN)).poll(&mut context) else {
        panic!("an operation that the kernel never saw is waited for");
    };
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADFD));
    match ring.receive(&near).poll_next(&context) {
        Poll::Ready(Received::Failed(error)) => assert_eq!(error.raw_os_error(), Some(libc::EBADFD)),
        _ => panic!("a receive that the kernel never saw is waited for"),
    }
    ring.close(near.into());
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
}
