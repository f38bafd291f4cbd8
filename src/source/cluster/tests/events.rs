//! What is written: Events.

use super::*;

fn taken(service: &str, by: &str) -> Problem {
    Problem {
        object: Some(format!("Service {service}")),
        reason: crate::problem::Reason::PortTaken,
        ..Problem::error(format!("the port is taken by {by}"))
    }
}

impl Server {
    /// Waits for that many writes of Events, and gives them.
    async fn events(&self, count: usize) -> Vec<String> {
        let told = || self.script(EVENTS, |script| script.listed.clone());
        until("events", || (told().len() >= count).then(told)).await
    }
}

#[test]
fn problems_become_events_of_their_objects_and_are_told_again_while_they_last() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let mut web = service("web", 5, 80);
        web["metadata"]["uid"] = json!("0-1-2");
        server.will_list(SERVICES, [list("10", &[web.clone()])]);
        server.will_list(EVENTS, [(201, json!({})), (409, json!({})), (200, json!({}))]);
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        let node = Problem { object: Some("Node us".into()), ..Problem::warning("unknown") };
        cluster.report(&[taken("d/web", "nginx"), Problem::error("of no object")]);
        let told = server.events(3).await;
        let (begin, event) = told[0].split_once('{').unwrap();
        assert_eq!(begin, "POST /api/v1/namespaces/d/events ");
        let event: Value = serde_json::from_str(&format!("{{{event}")).unwrap();
        assert_eq!(event["involvedObject"]["uid"], "0-1-2");
        assert_eq!(event["involvedObject"]["namespace"], "d");
        assert_eq!(event["metadata"]["namespace"], "d");
        assert_eq!((&event["reason"], &event["source"]["host"]), (&json!("PortTaken"), &json!("us")));
        assert_eq!(event["message"], "the port is taken by nginx");
        // The same again is there already, and stays.
        assert_eq!(told[1][..34], told[0][..34]);
        let name = event["metadata"]["name"].as_str().unwrap();
        let patch = format!("PATCH /api/v1/namespaces/d/events/{name} {{\"lastTimestamp\":\"20");
        assert!(told[2].starts_with(&patch), "{}", told[2]);

        // A Service of the same name is another one.
        web["metadata"]["uid"] = json!("3-4-5");
        web["metadata"]["resourceVersion"] = json!("11");
        server.send(SERVICES, "MODIFIED", web).await;
        server.will_list(EVENTS, [(201, json!({}))]);
        until("it is told of", || {
            cluster.report(&[taken("d/web", "nginx"), node.clone()]);
            let told = server.script(EVENTS, |script| script.listed.clone());
            let both = ["\"uid\":\"3-4-5\"", "\"uid\":\"us\""];
            both.iter().all(|uid| told.iter().any(|told| told.contains(uid))).then_some(())
        })
        .await;
        let of_node = server.script(EVENTS, |script| script.listed.pop().unwrap());
        assert!(of_node.starts_with("POST /api/v1/namespaces/default/events "), "{of_node}");
    });
}

#[test]
fn an_event_that_fails_is_tried_again_and_one_that_is_refused_keeps_no_other() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let refused = (403, json!({"message": "namespace d is being terminated"}));
        server.will_list(EVENTS, [(503, json!({})), (429, json!({})), refused, (201, json!({}))]);
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        cluster.report(&[taken("d/web", "nginx"), taken("e/api", "haproxy")]);
        let told = server.events(4).await;
        assert!(told[..3].iter().all(|told| told.contains("nginx")), "{told:?}");
        assert!(told[3].starts_with("POST /api/v1/namespaces/e/events ") && told[3].contains("haproxy"));
    });
}

#[test]
fn from_outside_the_cluster_nothing_is_written() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow(Settings { via_node_ports: true, ..Settings::default() });
        until("it is listed", || cluster.listed().then_some(())).await;
        cluster.report(&[taken("d/web", "nginx")]);
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(server.script(EVENTS, |script| script.listed.is_empty()));
    });
}
