//! A crash at any instant loses nothing that was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::rig::{SERVICES, plain};
use crate::harness::http::Api;
use crate::harness::process::Ringport;
use crate::harness::wait::{PATIENCE, measure_for, until};
use crate::harness::world::World;

/// What a writer knows of an object: its label, or that it is gone. Several, where an answer is missing.
type Known = BTreeMap<String, Vec<Option<u32>>>;

/// Writes until the server is gone; remembers what it was told, and what may have happened besides.
fn write(api: Api, writer: usize, seed: u64, known: &mut Known, stop: &AtomicBool) -> u32 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("w{writer}-{}", random.u32(..8));
        let value = random.u32(..);
        let object = format!("{SERVICES}/{name}");
        let headers = [("Content-Type", "application/json")];
        let now = known.entry(name.clone()).or_insert_with(|| vec![None]);
        let delete = random.u8(..4) == 0;
        let wanted = if delete { None } else { Some(value) };
        now.push(wanted);
        let answer = if delete {
            api.try_send("DELETE", &object, &headers, b"")
        } else {
            let mut body: serde_json::Value = serde_json::from_str(&plain(&name)).unwrap();
            body["metadata"]["labels"] = json!({"value": value.to_string()});
            api.try_send("PUT", &object, &headers, body.to_string().as_bytes())
        };
        match answer {
            Ok(answer) if matches!((answer.status, delete), (200 | 404, true) | (200 | 201, false)) => {
                *now = vec![wanted];
                acknowledged += 1;
            }
            Ok(answer) => panic!("{name}: {} {}", answer.status, answer.body),
            // Whether it was done is unknown.
            Err(_) => return acknowledged,
        }
    }
    acknowledged
}

#[test]
fn nothing_that_was_acknowledged_is_lost() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let api = Api(([127, 0, 0, 1], world.port()).into());
    let state = world.path("state");
    let args = ["--api", &api.0.to_string(), "--state-dir", state.to_str().unwrap()];
    let mut known: Vec<Known> = vec![Known::new(); 3];
    let (mut acknowledged, mut version) = (0, 0);
    for _ in 0..8 {
        let mut ringport = Ringport::start(&world, &args);
        let list = until("the API answers", || api.try_send("GET", SERVICES, &[], b"").ok()).expect(200);
        let now: u64 = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(now >= version, "versions never go back: {now} after {version}");
        version = now;
        let found: BTreeMap<&str, u32> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                let value = item["metadata"]["labels"]["value"].as_str().unwrap();
                (item["metadata"]["name"].as_str().unwrap(), value.parse().unwrap())
            })
            .collect();
        for (name, possible) in known.iter_mut().flatten() {
            let is = found.get(name.as_str()).copied();
            assert!(possible.contains(&is), "{name} is {is:?}, and should be one of {possible:?}");
            *possible = vec![is];
        }
        let time = Duration::from_millis(random.u64(20..400));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = known
                .iter_mut()
                .enumerate()
                .map(|(writer, known)| {
                    let (seed, stop) = (random.u64(..), &stop);
                    scope.spawn(move || write(api, writer, seed, known, stop))
                })
                .collect();
            measure_for(time);
            ringport.signal(Signal::KILL);
            ringport.wait(PATIENCE);
            stop.store(true, Ordering::Relaxed);
            acknowledged += writers.into_iter().map(|writer| writer.join().unwrap()).sum::<u32>();
        });
    }
    eprintln!("{acknowledged} changes were acknowledged");
    assert!(acknowledged > 0);
}
