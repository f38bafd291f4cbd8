use super::*;
use crate::k8s::field::FieldProblem;
use crate::source::cluster::Kind;
use crate::source::cluster::view::View;

/// An object that is nothing but a text.
#[derive(Clone, Debug, PartialEq)]
struct Text(&'static str);

impl Object for Text {
    type Raw = serde_json::Value;
    const KIND: Kind = Kind::Nodes;
    fn read(_: &serde_json::Value, _: &mut Vec<FieldProblem>) -> Self {
        unreachable!()
    }
    fn broken() -> Self {
        unreachable!()
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
    fn table(_: &mut View) -> &mut Table<Self> {
        unreachable!()
    }
    fn changed(_: &mut View, _: &NamespacedName, _: Option<Self>) {}
}

fn name(name: &str) -> NamespacedName {
    NamespacedName::new("d", name)
}

/// A table with these objects, as of a version.
fn listed(objects: &[(&str, u64, &'static str)], version: u64) -> Table<Text> {
    let mut table = Table::default();
    let entries = objects.iter().map(|(key, version, text)| (name(key), Some(*version), Text(text)));
    table.replace(entries, Some(version));
    table
}

fn changes(outcome: &Outcome<Text>) -> bool {
    matches!(outcome, Outcome::Changed(_))
}

#[test]
fn w3_a_list_finds_what_was_missed_and_keeps_what_is_equal() {
    let mut table = listed(&[("a", 1, "one"), ("b", 2, "two"), ("c", 3, "three")], 5);
    let list = [("a", 1, "one"), ("b", 8, "TWO"), ("d", 9, "four")];
    let entries = list.iter().map(|(key, version, text)| (name(key), Some(*version), Text(text)));
    let mut changed = table.replace(entries, Some(9));
    changed.sort_by(|a, b| a.0.cmp(&b.0));
    let wanted = [(name("b"), Some(Text("two"))), (name("c"), Some(Text("three"))), (name("d"), None)];
    assert_eq!(changed, wanted);
    assert_eq!(table.get(&name("c")), None);
    assert_eq!(table.len(), 3);
}

#[test]
fn w3_a_list_of_lower_versions_counts_as_well() {
    // After the cluster's database was restored from a backup.
    let mut table = listed(&[("a", 100, "new")], 100);
    table.put(&name("a"), Some(101), Text("newer"));
    let changed = table.replace([(name("a"), Some(50), Text("old"))].into_iter(), Some(60));
    assert_eq!(changed, [(name("a"), Some(Text("newer")))]);
    assert!(changes(&table.put(&name("a"), Some(61), Text("after"))));
}

#[test]
fn w8_older_news_change_nothing() {
    let mut table = listed(&[("a", 5, "a5")], 10);
    assert!(!changes(&table.put(&name("a"), Some(9), Text("before the list"))));
    assert!(changes(&table.put(&name("a"), Some(12), Text("a12"))));
    assert!(!changes(&table.put(&name("a"), Some(12), Text("a12"))), "twice");
    assert!(!changes(&table.put(&name("a"), Some(11), Text("a11"))));
    assert!(!changes(&table.remove(&name("a"), Some(11))));
    assert_eq!(table.get(&name("a")), Some(&Text("a12")));
    assert!(changes(&table.remove(&name("a"), Some(13))));
    assert!(!changes(&table.put(&name("a"), Some(12), Text("a12"))), "it does not come back");
    assert!(changes(&table.put(&name("a"), Some(14), Text("again"))), "unless it does");
}

#[test]
fn w8_a_delete_of_what_is_not_there_is_remembered() {
    let mut table = listed(&[], 10);
    assert!(!changes(&table.remove(&name("a"), Some(12))));
    assert!(!changes(&table.put(&name("a"), Some(11), Text("late"))));
}

#[test]
fn versions_that_are_no_numbers_are_not_compared() {
    let mut table = listed(&[], 0);
    assert!(changes(&table.put(&name("a"), None, Text("x"))));
    assert!(changes(&table.put(&name("a"), None, Text("y"))));
    assert!(changes(&table.remove(&name("a"), None)));
    assert!(!table.disordered(None));
}

#[test]
fn w2_disorder_is_a_lower_version_after_a_higher_one() {
    let mut table = listed(&[], 10);
    table.heard(Some(12));
    assert!(table.disordered(Some(11)) && !table.disordered(Some(12)) && !table.disordered(Some(13)));
}

#[test]
fn what_went_is_remembered_within_a_bound() {
    let mut table = listed(&[], 0);
    for version in 1..=limits::TOMBSTONES as u64 + 1 {
        table.heard(Some(version));
        table.remove(&name(&version.to_string()), Some(version));
    }
    assert!(table.gone.is_empty());
    assert!(!changes(&table.put(&name("1"), Some(1), Text("late"))), "still");
}

#[test]
fn a_list_knows_what_it_has_lost() {
    let table = listed(&[("a", 1, ""), ("b", 1, ""), ("c", 1, "")], 1);
    assert_eq!(table.lost([name("b"), name("new"), name("b")].iter()), 2);
    assert_eq!(table.lost([].iter()), 3);
}

/// Whatever the order in which the news of one object come, how often, and which of them a list has: once
/// all were heard, the last one counts.
#[test]
fn w8_any_order_ends_the_same() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..500 {
        let mut history: Vec<(u64, Option<&'static str>)> = Vec::new();
        for version in 11..=20 {
            let text = ["x", "y", "z"][random.usize(..3)];
            history.push((version, random.bool().then_some(text)));
        }
        let mut heard = history.clone();
        heard.extend((0..5).map(|_| history[random.usize(..10)]));
        random.shuffle(&mut heard);
        let mut table = listed(&[("a", 10, "first")], 10);
        for (version, text) in heard {
            match text {
                Some(text) => drop(table.put(&name("a"), Some(version), Text(text))),
                None => drop(table.remove(&name("a"), Some(version))),
            }
        }
        assert_eq!(table.get(&name("a")).map(|t| t.0), history[9].1, "{history:?}");
    }
}
