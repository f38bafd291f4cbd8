//! Lists and watches: W1 to W8.

use super::*;

#[test]
fn w1_nothing_is_given_out_before_every_kind_is_listed() {
    on_control_thread(|| async {
        let server = Server::start().await;
        server.will_list(NODES, [(503, json!({"message": "starting"}))]);
        let cluster = server.follow(Settings::default());
        until("two kinds are listed", || {
            let listed = |kind| standing(&cluster, kind).lists > 0;
            (listed(Kind::Services) && listed(Kind::EndpointSlices)).then_some(())
        })
        .await;
        until("the third is tried again", || (standing(&cluster, Kind::Nodes).failures > 2).then_some(()))
            .await;
        assert!(!cluster.listed() && cluster.take().is_none());
        assert!(standing(&cluster, Kind::Nodes).failing.unwrap().contains("503: starting"));
        server.will_list(NODES, [list("10", &[node("a", 7)])]);
        server.changed.notified().await;
        let taken = cluster.take().unwrap();
        assert_eq!(shown(&taken.world), FIRST);
        assert_eq!(taken.world.node.zone.as_deref(), Some("a"));
        assert_eq!(standing(&cluster, Kind::Nodes).failing, None);
    });
}

#[test]
fn events_change_what_they_name_and_nothing_else() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow(Settings::default());
        let before = world(&cluster, FIRST).await;
        server.send(SERVICES, "ADDED", service("api", 11, 81)).await;
        let after = world(&cluster, "api 81 → ; web 80 → 10.0.0.1").await;
        let web = NamespacedName::new("d", "web");
        assert!(Arc::ptr_eq(&before.services[&web], &after.services[&web]));
        server.send(SLICES, "ADDED", slice("web-2", "web", 12, "10.0.0.2")).await;
        world(&cluster, "api 81 → ; web 80 → 10.0.0.1,10.0.0.2").await;
        server.send(SLICES, "MODIFIED", slice("web-1", "api", 13, "10.0.0.9")).await;
        world(&cluster, "api 81 → 10.0.0.9; web 80 → 10.0.0.2").await;
        server.send(SLICES, "DELETED", slice("web-2", "web", 14, "10.0.0.2")).await;
        world(&cluster, "api 81 → 10.0.0.9; web 80 → ").await;
        server.send(SERVICES, "DELETED", service("web", 15, 80)).await;
        world(&cluster, "api 81 → 10.0.0.9").await;
        server.send(NODES, "MODIFIED", node("b", 16)).await;
        until("the zone", || (cluster.take().unwrap().world.node.zone.as_deref() == Some("b")).then_some(()))
            .await;
    });
}

#[test]
fn w2_a_watch_that_ends_is_resumed_where_it_ended() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        server.send(SERVICES, "ADDED", service("api", 11, 81)).await;
        world(&cluster, "api 81 → ; web 80 → 10.0.0.1").await;
        server.cut(SERVICES);
        until("it is resumed", || (server.watches(SERVICES).len() == 2).then_some(())).await;
        let bookmark = json!({"kind": "Service", "metadata": {"resourceVersion": "40"}});
        server.send(SERVICES, "BOOKMARK", bookmark).await;
        tokio::task::yield_now().await;
        server.cut(SERVICES);
        until("it is resumed", || (server.watches(SERVICES).len() == 3).then_some(())).await;
        assert_eq!(server.watches(SERVICES), ["10", "11", "40"]);
        assert_eq!(server.script(SERVICES, |script| script.listed.clone()), ["0NotOlderThan"]);
    });
}

#[test]
fn w2_a_version_that_is_too_old_is_listed_anew() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        // As an event of the stream, then as the answer to a watch.
        server.will_list(SERVICES, [list("30", &[service("web", 29, 8080)])]);
        server.send(SERVICES, "ERROR", json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
        world(&cluster, "web 8080 → 10.0.0.1").await;
        server.will_list(SERVICES, [list("50", &[service("web", 49, 9090)])]);
        server.script(SERVICES, |script| script.refuse_watches = Some(gone()));
        until("the watch", || (server.watches(SERVICES).len() == 2).then_some(())).await;
        server.cut(SERVICES);
        world(&cluster, "web 9090 → 10.0.0.1").await;
        let listed = server.script(SERVICES, |script| {
            script.refuse_watches = None;
            script.listed.clone()
        });
        assert_eq!(listed[..3], ["0NotOlderThan", "", ""], "as the database has it");
    });
}

#[test]
fn w2_events_out_of_order_are_not_trusted() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        let now =
            [service("web", 5, 80), service("api", 12, 81), service("old", 11, 82), service("lost", 10, 83)];
        server.will_list(SERVICES, [list("12", &now)]);
        server.send(SERVICES, "ADDED", service("api", 12, 81)).await;
        server.send(SERVICES, "ADDED", service("old", 11, 82)).await;
        world(&cluster, "api 81 → ; lost 83 → ; old 82 → ; web 80 → 10.0.0.1").await;
    });
}

#[test]
fn w3_a_list_finds_a_delete_that_was_missed_and_keeps_what_is_equal() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let both = [service("web", 5, 80), service("api", 6, 81)];
        server.will_list(SERVICES, [list("10", &both)]);
        let cluster = server.follow(Settings::default());
        let before = world(&cluster, "api 81 → ; web 80 → 10.0.0.1").await;
        server.will_list(SERVICES, [list("30", &[service("web", 5, 80)])]);
        server.send(SERVICES, "ERROR", json!({"code": 410})).await;
        let after = world(&cluster, FIRST).await;
        let web = NamespacedName::new("d", "web");
        assert!(Arc::ptr_eq(&before.services[&web], &after.services[&web]));
        assert!(Arc::ptr_eq(&before.slices[&web][0], &after.slices[&web][0]));
    });
}

#[test]
fn w4_an_empty_list_is_believed_when_a_second_one_says_the_same() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        // Empty once, as after a restore that is not finished.
        server.will_list(SLICES, [list("1", &[]), list("40", &[slice("web-1", "web", 39, "10.0.0.7")])]);
        server.send(SLICES, "ERROR", json!({"code": 410})).await;
        until("two lists more", || server.script(SLICES, |s| (s.listed.len() == 3).then_some(()))).await;
        world(&cluster, "web 80 → 10.0.0.7").await;
        until("the next watch", || (server.watches(SLICES).len() == 2).then_some(())).await;
        // Empty for good.
        server.will_list(SLICES, [list("50", &[])]);
        server.send(SLICES, "ERROR", json!({"code": 410})).await;
        until("a first list", || server.script(SLICES, |s| (s.listed.len() == 4).then_some(()))).await;
        assert_eq!(shown(&cluster.take().unwrap().world), "web 80 → 10.0.0.7", "not at once");
        world(&cluster, "web 80 → ").await;
        let listed = server.script(SLICES, |script| script.listed.clone());
        assert_eq!(listed, ["0NotOlderThan", "", "", "", ""], "the second is not from a cache");
    });
}

#[test]
fn w5_a_silent_stream_is_dropped_and_resumed() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow_until_silent(Settings::default(), Duration::from_millis(200));
        world(&cluster, FIRST).await;
        server.send(SERVICES, "ADDED", service("api", 11, 81)).await;
        until("it is resumed", || {
            (server.watches(SERVICES).last().is_some_and(|version| version == "11")).then_some(())
        })
        .await;
        assert!(standing(&cluster, Kind::Services).failures > 0);
        server.send(SERVICES, "ADDED", service("new", 12, 82)).await;
        world(&cluster, "api 81 → ; new 82 → ; web 80 → 10.0.0.1").await;
    });
}

#[test]
fn w6_while_the_server_is_away_the_last_state_holds_and_gets_older() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        for kind in [SERVICES, SLICES, NODES] {
            until("a watch", || (!server.watches(kind).is_empty()).then_some(())).await;
            server.script(kind, |script| {
                script.refuse_watches = Some((500, json!({"message": "etcd is gone"})));
                script.lists = [(500, json!({"message": "etcd is gone"}))].into();
            });
            server.cut(kind);
        }
        let age = |cluster: &Cluster| standing(cluster, Kind::Services).age.unwrap();
        let failed = until("it fails", || {
            let standing = standing(&cluster, Kind::Services);
            (standing.failures > 2 && standing.failing.is_some()).then_some(standing)
        })
        .await;
        assert!(failed.failing.unwrap().contains("500: etcd is gone"));
        let before = age(&cluster);
        until("it gets older", || (age(&cluster) > before + Duration::from_millis(20)).then_some(())).await;
        assert_eq!(shown(&cluster.take().unwrap().world), FIRST);
        for kind in [SERVICES, SLICES, NODES] {
            server.script(kind, |script| script.refuse_watches = None);
        }
        server.will_list(SLICES, [list("60", &[slice("web-1", "web", 59, "10.0.0.8")])]);
        server.will_list(SERVICES, [list("60", &[service("web", 5, 80)])]);
        world(&cluster, "web 80 → 10.0.0.8").await;
    });
}

#[test]
fn w6_a_server_that_does_not_answer_is_given_up_and_asked_again() {
    on_control_thread(|| async {
        let server = Server::start().await;
        server.script(SERVICES, |script| script.deaf = true);
        let link = server.link();
        let short = Duration::from_millis(20);
        let timing = Timing { request: short, backoff: short, backoff_max: short, ..Timing::default() };
        let settings = Settings { node_name: "us".into(), ..Settings::default() };
        let cluster = Cluster::start(link, settings, timing, server.changed.clone());
        until("it is given up", || (standing(&cluster, Kind::Services).failures > 1).then_some(())).await;
        server.script(SERVICES, |script| script.deaf = false);
        world(&cluster, FIRST).await;
    });
}

/// A server whose lists are older than what it watches from says so again and again.
#[test]
fn w6_a_version_that_is_too_old_at_once_is_not_asked_for_in_a_loop() {
    on_control_thread(|| async {
        let server = Server::start().await;
        server.script(SERVICES, |script| script.refuse_watches = Some(gone()));
        let start = Instant::now();
        let _cluster = server.follow(Settings::default());
        until("lists", || server.script(SERVICES, |s| (s.listed.len() > 20).then_some(()))).await;
        // Half of 5, 10, 20 and 17 times 40 ms are the shortest pauses between these.
        let shortest = Duration::from_millis((5 + 10 + 20 + 17 * 40) / 2);
        assert!(start.elapsed() >= shortest, "{:?}", start.elapsed());
    });
}

/// The Nodes may be forbidden for days, and meanwhile the slices change.
#[test]
fn w1_what_nobody_can_take_yet_is_not_kept() {
    on_control_thread(|| async {
        let server = Server::start().await;
        server.will_list(NODES, [(403, json!({"message": "forbidden"}))]);
        let cluster = server.follow(Settings::default());
        until("a watch", || (!server.watches(SLICES).is_empty()).then_some(())).await;
        for version in 11..20 {
            let mut slice = slice("web-1", "web", version, &format!("10.0.1.{version}"));
            slice["metadata"]["annotations"] =
                json!({"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"});
            server.send(SLICES, "MODIFIED", slice).await;
        }
        let pending = || standing(&cluster, Kind::EndpointSlices).pending;
        until("they are there", || (pending() > 9).then_some(())).await;
        server.will_list(NODES, [list("10", &[node("a", 7)])]);
        let taken = until("the nodes", || cluster.take()).await;
        assert_eq!(shown(&taken.world), "web 80 → 10.0.1.19");
        assert_eq!(taken.triggers, [0.0; 0]);
    });
}

#[test]
fn w7_an_object_that_cannot_be_read_is_left_out_and_told() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let mut bad = service("bad", 8, 80);
        bad["spec"]["ports"] = json!("none");
        let mut worse = slice("bad-1", "web", 9, "10.0.0.2");
        worse["endpoints"][0]["addresses"] = json!(["nonsense"]);
        server.will_list(
            SERVICES,
            [list("10", &[bad, service("web", 5, 80), json!({"metadata": {}}), json!(7)])],
        );
        server.will_list(SLICES, [list("10", &[worse, slice("web-1", "web", 6, "10.0.0.1")])]);
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        let problems: Vec<String> =
            cluster.take().unwrap().problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("Service d/bad: it cannot be read: "), "{problems:?}");
        assert!(
            problems[1].starts_with("EndpointSlice d/bad-1: endpoints[0].addresses[0]: "),
            "{problems:?}"
        );
        server.send(SERVICES, "MODIFIED", service("bad", 11, 81)).await;
        world(&cluster, "bad 81 → ; web 80 → 10.0.0.1").await;
        assert_eq!(cluster.take().unwrap().problems.len(), 1, "it is mended");
        // A line that is no event: everything is listed anew.
        let lists = server.script(SERVICES, |script| script.listed.len());
        server.line(SERVICES, "{nonsense").await;
        until("a list", || server.script(SERVICES, |s| (s.listed.len() > lists).then_some(()))).await;
    });
}

#[test]
fn the_label_of_the_proxy_counts_both_ways() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let mut ours = service("ours", 5, 80);
        ours["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "ringport"});
        let mut others = service("others", 6, 81);
        others["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "x"});
        // A server that does not know selectors sends everything.
        server.will_list(SERVICES, [list("10", &[ours, others, service("plain", 7, 82)])]);
        let cluster = server.follow(Settings::default());
        world(&cluster, "plain 82 → ").await;
        drop(cluster);
        let cluster = server.follow(Settings { proxy_name: Some("ringport".into()), ..Settings::default() });
        world(&cluster, "ours 80 → ").await;
    });
}

#[test]
fn doubted_slices_are_listed_anew_beside_the_watch() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let two = [slice("web-1", "web", 6, "10.0.0.1"), slice("web-2", "web", 7, "10.0.0.2")];
        server.will_list(SLICES, [list("10", &two)]);
        let cluster = server.follow(Settings::default());
        world(&cluster, "web 80 → 10.0.0.1,10.0.0.2").await;
        // The watch has lost that one slice went and another came.
        server.will_list(SLICES, [list("30", &[two[0].clone(), slice("web-3", "web", 29, "10.0.0.3")])]);
        cluster.doubt(NamespacedName::new("d", "web"));
        world(&cluster, "web 80 → 10.0.0.1,10.0.0.3").await;
        let listed = server.script(SLICES, |script| script.listed.clone());
        assert_eq!(listed[1], " /apis/discovery.k8s.io/v1/namespaces/d/endpointslices");
        // The watch goes on as it was, and older news of it change nothing.
        server.send(SLICES, "DELETED", slice("web-2", "web", 28, "10.0.0.2")).await;
        server.send(SLICES, "MODIFIED", slice("web-3", "web", 27, "10.0.0.99")).await;
        server.send(SLICES, "MODIFIED", slice("web-1", "web", 31, "10.0.0.4")).await;
        world(&cluster, "web 80 → 10.0.0.4,10.0.0.3").await;
    });
}

#[test]
fn a_node_that_was_there_and_is_gone_is_not_eligible() {
    on_control_thread(|| async {
        let server = Server::start().await;
        let cluster = server.follow(Settings::default());
        world(&cluster, FIRST).await;
        assert!(cluster.node_eligible());
        let mut leaving = node("a", 11);
        leaving["spec"] =
            json!({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]});
        server.send(NODES, "MODIFIED", leaving).await;
        until("the taint counts", || (!cluster.node_eligible()).then_some(())).await;
        server.send(NODES, "MODIFIED", node("a", 12)).await;
        until("it is gone", || cluster.node_eligible().then_some(())).await;
        server.send(NODES, "DELETED", node("a", 13)).await;
        until("the delete counts", || (!cluster.node_eligible()).then_some(())).await;
        let problems = cluster.take().unwrap().problems;
        assert!(problems[0].to_string().contains("there is no such Node"), "{problems:?}");
    });
}
