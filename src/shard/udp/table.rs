//! The flow table of a shard, pure: which flow a datagram belongs to, which flows are over, which one gives way.
//!
//! - F1 a key has one place; it keeps it until it is removed.
//! - F2 a place expires once nothing was seen for its timeout, never before; at most a sixteenth later.
//! - F3 the timeout is the stream one for flows that were answered and are older than
//!   [`limits::UDP_STREAM_AFTER`], as nf_conntrack has it; else the unanswered one.
//! - F4 when a place is needed, the unanswered one that was seen longest ago goes first, then the answered one.
//!
//! There is no timer for a flow. Places of one timeout are linked in the order in which they were last seen, so
//! only the oldest of each list can expire. To see one anew moves it only when its stamp is a sixteenth of its
//! timeout old (a second at most): most datagrams read one place and write nothing.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use slab::Slab;

use crate::clock::Millis;
use crate::limits;
use crate::ring::LocalAddr;

/// What makes datagrams one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The number of the frontend.
    pub(super) front: u32,
    /// As the frontend's socket names the client.
    pub(super) client: SocketAddr,
    /// The address the client sent to, where the frontend has several.
    pub(super) local: Option<LocalAddr>,
}

/// In few words: it is hashed for each datagram. What is left out (scopes) hardly ever differs.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.front) << 16 | u64::from(self.client.port()));
        state.write_u128(bits(self.client.ip()));
        if let Some(local) = self.local {
            state.write_u128(bits(local.ip));
        }
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// A place in the table. It is used again after it was removed.
pub(super) type Id = u32;

/// How long a flow is kept that is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// While the pod has not answered, and for the first two seconds.
    pub unanswered: Duration,
    /// After that.
    pub stream: Duration,
}

impl Default for Timeouts {
    /// Those of nf_conntrack.
    fn default() -> Self {
        Self { unanswered: Duration::from_secs(30), stream: Duration::from_secs(120) }
    }
}

/// See the module.
pub(super) struct Table<V> {
    index: HashMap<Key, Id>,
    places: Slab<Place<V>>,
    /// All places, by class.
    classes: BTreeMap<Class, List>,
    /// The places of each frontend, by whether they were answered.
    fronts: BTreeMap<(u32, bool), List>,
}

struct Place<V> {
    key: Key,
    value: V,
    born: Millis,
    /// Seen then, or up to a step of its class later.
    seen: Millis,
    timeouts: Timeouts,
    class: Class,
    links: [Link; 2],
}

/// Places that expire after the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    answered: bool,
    timeout: Duration,
}

/// Linked from the place seen last to the one seen longest ago.
#[derive(Clone, Copy)]
struct List {
    newest: Id,
    oldest: Id,
}

#[derive(Clone, Copy)]
struct Link {
    newer: Id,
    older: Id,
}

/// Which of the two lists of a place.
#[derive(Clone, Copy)]
enum By {
    Class = 0,
    Front = 1,
}

const NONE: Id = Id::MAX;

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { index: HashMap::new(), places: Slab::new(), classes: BTreeMap::new(), fronts: BTreeMap::new() }
    }
}

impl<V> Table<V> {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The place of a key.
    pub(super) fn find(&self, key: &Key) -> Option<(Id, &V)> {
        let id = *self.index.get(key)?;
        Some((id, self.get(id)?))
    }

    pub(super) fn get(&self, id: Id) -> Option<&V> {
        self.places.get(id as usize).map(|place| &place.value)
    }

    /// A place for a key that has none; one that it had is given up.
    pub(super) fn insert(&mut self, key: Key, value: V, timeouts: Timeouts, now: Millis) -> Id {
        if let Some(id) = self.index.get(&key).copied() {
            self.remove(id);
        }
        let class = Class { answered: false, timeout: timeouts.unanswered };
        let links = [Link { newer: NONE, older: NONE }; 2];
        let place = Place { key, value, born: now, seen: now, timeouts, class, links };
        let id = self.places.insert(place) as Id;
        self.index.insert(key, id);
        self.link(id);
        id
    }

    /// A datagram was seen: from the pod, or from the client.
    pub(super) fn seen(&mut self, id: Id, from_pod: bool, now: Millis) {
        let Some(place) = self.places.get_mut(id as usize) else { return };
        let answered = place.class.answered || from_pod;
        let stream = answered && now.since(place.born) >= limits::UDP_STREAM_AFTER;
        let timeout = if stream { place.timeouts.stream } else { place.timeouts.unanswered };
        let class = Class { answered, timeout };
        if class == place.class && now.since(place.seen) < class.step() {
            return;
        }
        self.unlink(id);
        if let Some(place) = self.places.get_mut(id as usize) {
            place.class = class;
            place.seen = place.seen.max(now);
        }
        self.link(id);
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<V> {
        if !self.places.contains(id as usize) {
            return None;
        }
        self.unlink(id);
        let place = self.places.try_remove(id as usize)?;
        self.index.remove(&place.key);
        Some(place.value)
    }

    /// A place that has expired (F2).
    pub(super) fn expired(&self, now: Millis) -> Option<Id> {
        self.oldest_of_classes().find(|(_, due)| *due <= now).map(|(id, _)| id)
    }

    /// When the next one may expire.
    pub(super) fn next_expiry(&self) -> Option<Millis> {
        self.oldest_of_classes().map(|(_, due)| due).min()
    }

    fn oldest_of_classes(&self) -> impl Iterator<Item = (Id, Millis)> {
        self.classes.iter().filter_map(|(class, list)| {
            let place = self.places.get(list.oldest as usize)?;
            Some((list.oldest, place.seen.after(class.timeout + class.step())))
        })
    }

    /// The place that gives way to a new flow (F4).
    pub(super) fn oldest(&self) -> Option<Id> {
        let lists = self.classes.iter().filter_map(|(class, list)| {
            let place = self.places.get(list.oldest as usize)?;
            Some(((class.answered, place.seen), list.oldest))
        });
        lists.min_by_key(|(age, _)| *age).map(|(_, id)| id)
    }

    /// The same among the flows of a frontend, and among those of one client where one is named; it looks at the
    /// oldest few only.
    pub(super) fn oldest_of(&self, front: u32, client: Option<IpAddr>) -> Option<Id> {
        let of = |id: &Id| {
            let place = self.places.get(*id as usize);
            place.is_some_and(|place| {
                client.is_none_or(|client| place.key.client.ip().to_canonical() == client)
            })
        };
        self.of_front(front).take(limits::UDP_EVICT_LOOK).find(of)
    }

    /// All places of a frontend: the unanswered ones, then the others, each from the one seen longest ago.
    pub(super) fn of_front(&self, front: u32) -> impl Iterator<Item = Id> {
        let lists = [false, true].into_iter().filter_map(move |answered| self.fronts.get(&(front, answered)));
        lists.flat_map(|list| self.walk(*list, By::Front)).map(|(id, _)| id)
    }

    /// All places in which nothing was seen for this long, give or take the step of their class.
    pub(super) fn silent(&self, time: Duration, now: Millis) -> Vec<Id> {
        let lists = self.classes.values();
        let old = lists.flat_map(|list| {
            self.walk(*list, By::Class).take_while(|(_, place)| now.since(place.seen) >= time)
        });
        old.map(|(id, _)| id).collect()
    }

    fn walk(&self, list: List, by: By) -> impl Iterator<Item = (Id, &Place<V>)> {
        let at = |id: Id| self.places.get(id as usize).map(|place| (id, place));
        std::iter::successors(at(list.oldest), move |(_, place)| at(place.link(by).newer))
    }

    /// Makes a place the newest of its two lists.
    fn link(&mut self, id: Id) {
        for by in [By::Class, By::Front] {
            let Some(mut list) = self.list(id, by) else { return };
            let second = list.newest;
            if let Some(place) = self.places.get_mut(id as usize) {
                *place.link_mut(by) = Link { newer: NONE, older: second };
            }
            match self.places.get_mut(second as usize) {
                Some(place) => place.link_mut(by).newer = id,
                None => list.oldest = id,
            }
            list.newest = id;
            self.set_list(id, by, list);
        }
    }

    fn unlink(&mut self, id: Id) {
        for by in [By::Class, By::Front] {
            let Some(mut list) = self.list(id, by) else { return };
            let Some(Link { newer, older }) = self.places.get(id as usize).map(|place| place.link(by)) else {
                return;
            };
            match self.places.get_mut(newer as usize) {
                Some(place) => place.link_mut(by).older = older,
                None => list.newest = older,
            }
            match self.places.get_mut(older as usize) {
                Some(place) => place.link_mut(by).newer = newer,
                None => list.oldest = newer,
            }
            self.set_list(id, by, list);
        }
    }

    fn list(&self, id: Id, by: By) -> Option<List> {
        let place = self.places.get(id as usize)?;
        let list = match by {
            By::Class => self.classes.get(&place.class),
            By::Front => self.fronts.get(&place.front()),
        };
        Some(list.copied().unwrap_or(List { newest: NONE, oldest: NONE }))
    }

    fn set_list(&mut self, id: Id, by: By, list: List) {
        let Some(place) = self.places.get(id as usize) else { return };
        let empty = list.newest == NONE;
        match by {
            By::Class if empty => _ = self.classes.remove(&place.class),
            By::Class => _ = self.classes.insert(place.class, list),
            By::Front if empty => _ = self.fronts.remove(&place.front()),
            By::Front => _ = self.fronts.insert(place.front(), list),
        }
    }
}

impl Class {
    /// How exact the stamps of its places are.
    fn step(self) -> Duration {
        const MOST: Duration = Duration::from_secs(1);
        (self.timeout / 16).min(MOST)
    }
}

impl<V> Place<V> {
    fn front(&self) -> (u32, bool) {
        (self.key.front, self.class.answered)
    }

    fn link(&self, by: By) -> Link {
        let [class, front] = self.links;
        match by {
            By::Class => class,
            By::Front => front,
        }
    }

    fn link_mut(&mut self, by: By) -> &mut Link {
        let [class, front] = &mut self.links;
        match by {
            By::Class => class,
            By::Front => front,
        }
    }
}

#[cfg(test)]
mod tests;
