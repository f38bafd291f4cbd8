use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const UNANSWERED: u64 = 30_000;
const STREAM: u64 = 120_000;

fn timeouts() -> Timeouts {
    Timeouts::default()
}

fn key(front: u32, client: u8) -> Key {
    Key { front, client: ([10, 0, 0, client], 1000).into(), local: None }
}

#[test]
fn f2_a_silent_flow_expires_in_time_and_not_before() {
    let mut table = Table::default();
    let id = table.insert(key(1, 1), (), timeouts(), Millis(5));
    assert_eq!(table.expired(Millis(5 + UNANSWERED - 1)), None);
    let due = table.next_expiry().unwrap();
    assert!((5 + UNANSWERED..=5 + UNANSWERED * 17 / 16).contains(&due.0), "{due:?}");
    assert_eq!(table.expired(due), Some(id));
    table.remove(id);
    assert_eq!((table.expired(Millis(u64::MAX)), table.next_expiry(), table.len()), (None, None, 0));
}

#[test]
fn f3_one_question_and_one_answer_are_no_stream_but_a_conversation_is() {
    let mut table = Table::default();
    let dns = table.insert(key(1, 1), (), timeouts(), Millis(0));
    table.seen(dns, true, Millis(10));
    let quic = table.insert(key(1, 2), (), timeouts(), Millis(0));
    table.seen(quic, true, Millis(10));
    table.seen(quic, false, Millis(2_500));
    let one_way = table.insert(key(1, 3), (), timeouts(), Millis(0));
    table.seen(one_way, false, Millis(2_500));
    let mut over = Vec::new();
    for now in (0..200_000).step_by(100).map(Millis) {
        while let Some(id) = table.expired(now) {
            table.remove(id);
            over.push((id, now.0));
        }
    }
    let [(first, at_first), (second, at_second), (third, at_third)] = over[..] else { panic!("{over:?}") };
    assert_eq!([first, second, third], [dns, one_way, quic]);
    assert!((UNANSWERED..=UNANSWERED + 2_100).contains(&at_first), "{at_first}");
    assert!((UNANSWERED + 2_500..=UNANSWERED + 4_600).contains(&at_second), "{at_second}");
    assert!((STREAM + 2_500..=STREAM + 4_600).contains(&at_third), "{at_third}");
}

#[test]
fn f4_unanswered_flows_give_way_first_and_then_the_one_seen_longest_ago() {
    let mut table = Table::default();
    let ids: Vec<Id> =
        (0..4).map(|i| table.insert(key(1, i), (), timeouts(), Millis(u64::from(i)))).collect();
    table.seen(ids[0], true, Millis(10));
    table.seen(ids[2], true, Millis(20));
    // Seen again, and late enough to be noted.
    table.seen(ids[1], false, Millis(5_000));
    table.seen(ids[0], false, Millis(6_000));
    let mut order = Vec::new();
    while let Some(id) = table.oldest() {
        assert_eq!(table.oldest_of(1, None), Some(id));
        table.remove(id);
        order.push(id);
    }
    assert_eq!(order, [ids[3], ids[1], ids[2], ids[0]]);
}

#[test]
fn a_client_gives_up_its_own() {
    let mut table = Table::default();
    let ids: Vec<Id> = (0..3).map(|i| table.insert(key(1, i), (), timeouts(), Millis(0))).collect();
    table.insert(key(2, 1), (), timeouts(), Millis(0));
    assert_eq!(table.oldest_of(1, Some([10, 0, 0, 1].into())), Some(ids[1]));
    assert_eq!(table.oldest_of(1, Some([10, 0, 0, 9].into())), None);
}

/// What happens to a table.
#[derive(Clone, Debug)]
enum Step {
    /// A datagram of a client to a frontend: begins a flow, or belongs to one.
    Client(u32, u8),
    /// The pod answers, if there is a flow.
    Pod(u32, u8),
    /// Time passes, and what is over is removed.
    Pass(u64),
    /// A place is needed.
    Evict,
    /// A frontend is gone.
    Gone(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let (front, client) = (0..3u32, 0..6u8);
    prop_oneof![
        6 => (front.clone(), client.clone()).prop_map(|(f, c)| Step::Client(f, c)),
        4 => (front.clone(), client).prop_map(|(f, c)| Step::Pod(f, c)),
        4 => (0u64..40_000).prop_map(Step::Pass),
        1 => Just(Step::Evict),
        1 => front.prop_map(Step::Gone),
    ]
}

/// A flow as the rules have it, without lists.
#[derive(Clone, Debug)]
struct Model {
    id: Id,
    born: u64,
    last: u64,
    answered: bool,
    stream: bool,
}

impl Model {
    fn timeout(&self, of: Timeouts) -> u64 {
        (if self.stream { of.stream } else { of.unanswered }).as_millis() as u64
    }

    fn seen(&mut self, from_pod: bool, now: u64) {
        self.answered |= from_pod;
        self.stream |= self.answered && now - self.born >= 2_000;
        self.last = now;
    }
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_says(steps in proptest::collection::vec(step(), 1..120)) {
        let mut table = Table::default();
        let mut model: HashMap<Key, Model> = HashMap::new();
        let mut now = 0;
        // Every frontend has its own timeouts.
        let of = |front: u32| Timeouts {
            unanswered: Duration::from_millis(UNANSWERED / u64::from(front + 1)),
            stream: Duration::from_millis(STREAM / u64::from(front + 1)),
        };
        for step in steps {
            match step {
                Step::Client(front, client) => {
                    let key = key(front, client);
                    let found = table.find(&key).map(|(id, value)| (id, *value));
                    prop_assert_eq!(found.map(|(id, _)| id), model.get(&key).map(|m| m.id)); // F1
                    match found {
                        Some((id, value)) => {
                            prop_assert_eq!(value, key);
                            table.seen(id, false, Millis(now));
                            model.get_mut(&key).unwrap().seen(false, now);
                        }
                        None => {
                            let id = table.insert(key, key, of(front), Millis(now));
                            model.insert(key, Model { id, born: now, last: now, answered: false, stream: false });
                        }
                    }
                }
                Step::Pod(front, client) => {
                    if let Some(flow) = model.get_mut(&key(front, client)) {
                        table.seen(flow.id, true, Millis(now));
                        flow.seen(true, now);
                    }
                }
                Step::Pass(time) => {
                    now += time;
                    while let Some(id) = table.expired(Millis(now)) {
                        let key = table.remove(id).unwrap();
                        let flow = model.remove(&key).unwrap();
                        prop_assert!(now >= flow.last + flow.timeout(of(key.front)), "too early: {flow:?} at {now}");
                    }
                    for (key, flow) in &model {
                        let timeout = flow.timeout(of(key.front));
                        let late = flow.last + timeout + timeout / 16 + 1;
                        prop_assert!(now <= late, "too late: {flow:?} at {now}"); // F2
                    }
                }
                Step::Evict => {
                    let chosen = table.oldest();
                    prop_assert_eq!(chosen.is_some(), !model.is_empty());
                    if let Some(id) = chosen {
                        let key = table.remove(id).unwrap();
                        let flow = model.remove(&key).unwrap();
                        // F4, as exact as the stamps are: a second.
                        for other in model.values() {
                            prop_assert!(!flow.answered || other.answered, "{other:?} before {flow:?}");
                            let older = other.last + 1_000 < flow.last;
                            prop_assert!(flow.answered != other.answered || !older, "{other:?} before {flow:?}");
                        }
                    }
                }
                Step::Gone(front) => {
                    let ids: Vec<Id> = table.of_front(front).collect();
                    prop_assert_eq!(ids.len(), model.keys().filter(|key| key.front == front).count());
                    for id in ids {
                        prop_assert_eq!(table.remove(id).unwrap().front, front);
                    }
                    model.retain(|key, _| key.front != front);
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.silent(Duration::ZERO, Millis(now)).len(), model.len());
        }
    }
}
