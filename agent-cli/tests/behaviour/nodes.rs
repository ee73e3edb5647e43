//! `node …`, and tasks with a target, against a service and a node of it.

use std::fs;
use std::process::Command;

use crate::served::endless;
use crate::service::Service;
use crate::support::{Ended, Site, eventually, write};
use crate::terminal::typing;

/// An API server, a node of it, and what the command line calls the former with.
pub(crate) struct Scene {
    pub(crate) caller: Site,
    pub(crate) url: String,
    _server: (Site, Service),
    pub(crate) node: (Site, Service),
}

impl Scene {
    pub(crate) fn new() -> Self {
        let caller = Site::new();
        let mut sections = String::new();
        for (name, scope) in [("boss", "admin"), ("db-1", "node")] {
            let made = caller.ended(["token", "create", "--json", "--name", name, "--scope", scope]).json();
            write(&caller.path(name), made["token"].as_str().unwrap(), 0o600);
            sections += &format!("{}\n", made["section"].as_str().unwrap());
        }
        let server = Service::with_settings("", &sections);
        let url = format!("http://127.0.0.1:{}", server.1.port);
        let token = caller.path("db-1").display().to_string();
        let node = Service::with_settings(
            "",
            &format!(
                "[node]\napi_server = \"ws://127.0.0.1:{}\"\nname = \"db-1\"\ntoken_file = \"{token}\"\n\
                 labels = {{ role = \"db\", zone = \"a\" }}\n[limits]\nconcurrent = 3",
                server.1.port
            ),
        );
        node.0.script("hello.sh", "#!/bin/sh\necho hello \"$@\" from \"$TASK_NODE\"\n");
        Self { caller, url, _server: server, node }
    }

    fn command(&self, words: &[&str]) -> Command {
        // Behind the command's two words, since everything behind a script's name is the script's.
        let (command, rest) = words.split_at(2);
        let settings = ["--server", &self.url, "--token-file", "boss"];
        self.caller.agent([command, &settings, rest].concat())
    }

    fn ended(&self, words: &[&str]) -> Ended {
        Ended::of(&mut self.command(words))
    }

    fn connected(&self) {
        self.offers("hello.sh");
    }

    /// Waits until the service knows that the node has this script.
    pub(crate) fn offers(&self, script: &str) {
        eventually("the node's script", || {
            self.ended(&["node", "show", "db-1"]).text().contains(script).then_some(())
        });
    }
}

#[test]
fn nodes_are_listed_shown_and_drained_and_tasks_sent_to_them() {
    let scene = Scene::new();
    assert!(scene.ended(&["node", "show", "db-2"]).stderr.contains("there is no node 'db-2'"));
    scene.connected();
    assert_eq!(scene.ended(&["node", "list"]).text(), "db-1  connected  0 of 3  role=db,zone=a\n");
    assert_eq!(scene.ended(&["node", "list", "--json"]).json()["nodes"][0]["name"], "db-1");
    let shown = scene.ended(&["node", "show", "db-1"]).text();
    let facts: Vec<&str> = shown.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(facts, ["name", "state", "since", "running", "labels", "agent", "script"], "{shown}");

    for target in [&["--node", "db-1"][..], &["--node-label", "role=db", "--node-label", "zone=a"]] {
        let ended = scene.ended(&[&["task", "submit", "--follow"], target, &["hello.sh", "you"]].concat());
        assert_eq!(
            (ended.code, ended.text().as_str()),
            (Some(0), "hello you from db-1\n"),
            "{}",
            ended.stderr
        );
    }
    let listed = scene.ended(&["task", "list", "--node", "db-1"]).text();
    assert!(
        listed.lines().count() == 2 && listed.lines().all(|line| line.ends_with("  hello.sh  db-1")),
        "{listed}"
    );
    let both = scene.ended(&["task", "submit", "--node", "db-1", "--node-label", "role=db", "hello.sh"]);
    assert_eq!(both.code, Some(2));
    let misspelt = scene.ended(&["task", "submit", "--node-label", "role", "hello.sh"]);
    assert!(misspelt.stderr.contains("--node-label"), "{}", misspelt.stderr);

    let drained = scene.ended(&["node", "drain", "db-1"]);
    assert_eq!(
        (drained.code, drained.stderr.as_str()),
        (Some(0), "db-1 takes no new tasks; it has 0 tasks now\n")
    );
    assert_eq!(scene.ended(&["node", "list"]).text(), "db-1  connected, draining  0 of 3  role=db,zone=a\n");
    let undone = scene.ended(&["node", "drain", "--undo", "--json", "db-1"]).json();
    assert_eq!(undone["draining"], false);
}

#[test]
fn a_task_whose_node_does_not_come_back_is_given_up() {
    let scene = Scene::new();
    let gate = scene.node.0.fifo("gate");
    scene.node.0.script("waits.sh", "#!/bin/sh\necho one\nread -r _ <\"$1\"\n");
    scene.connected();
    let submit = ["task", "submit", "--node", "db-1", "--unreachable-after", "1h", "waits.sh", &gate];
    let id = eventually("the new script", || {
        let ended = scene.ended(&submit);
        (ended.code == Some(0)).then(|| ended.text().trim().to_owned())
    });
    eventually("its log", || (scene.ended(&["task", "logs", &id]).text() == "one\n").then_some(()));
    let given_up = scene.ended(&["task", "abandon", &id]);
    assert_eq!((given_up.code, given_up.stderr.as_str()), (Some(0), "given up; it is lost\n"));
    // Its node was there all the time, and ends what it was told to.
    let shown = eventually("what came of it after all", || {
        let shown = scene.ended(&["task", "show", &id]).text();
        shown.contains("came late  ").then_some(shown)
    });
    assert!(shown.contains("status     lost\n") && shown.contains("came late  cancelled"), "{shown}");
    assert!(shown.contains("given up by boss;"), "{shown}");
    assert_eq!(scene.ended(&["task", "abandon", &id]).code, Some(1));
    let another = scene.ended(&["task", "rerun", "--json", &id]).json();
    let another = another["id"].as_str().unwrap();
    let given_up = eventually("its start", || {
        let ended = scene.ended(&["task", "abandon", "--json", another]);
        (ended.code == Some(0)).then(|| ended.json())
    });
    assert_eq!((&given_up["id"], &given_up["status"]), (&another.into(), &"lost".into()));
}

#[test]
fn the_scripts_of_a_node_and_of_a_pool_are_listed_and_shown() {
    let scene = Scene::new();
    scene.node.0.script(
        "hello.sh",
        "#!/bin/sh\n#TASK description=\"Greets\" effect=\"read\"\n#USAGE arg \"<whom>\" help=\"Whom\"\n",
    );
    scene.connected();
    // Options stand behind one word here.
    let ended = |words: &[&str]| {
        let settings = ["--server", &scene.url, "--token-file", "boss"];
        scene.caller.ended([words, &settings].concat())
    };
    assert!(!ended(&["list"]).text().contains("hello.sh"));
    assert_eq!(ended(&["show", "hello.sh"]).code, Some(1));
    let followed = scene.ended(&["task", "submit", "--follow", "--node", "db-1", "hello.sh", "you"]);
    assert_eq!(followed.code, Some(0), "{}", followed.stderr);
    for (place, lasts) in [(["--node", "db-1"], "succeeded"), (["--node-label", "role=db"], "-")] {
        let listed = ended(&[&["list"], &place[..]].concat());
        let line = listed.text().lines().find(|line| line.starts_with("hello.sh ")).unwrap().to_owned();
        assert!(line.contains("  read  ") && line.contains(&format!("  {lasts}  ")), "{line}");
        assert!(line.ends_with("  Greets"), "{line}");
        let shown = ended(&[&["show", "hello.sh"], &place[..]].concat()).text();
        assert!(shown.contains("\nparameters:\n  whom  string  required  Whom\n"), "{shown}");
        assert_eq!(shown.contains(" on db-1\n"), place[0] == "--node-label", "{shown}");
        assert_eq!(shown.lines().any(|line| line == "last         -"), lasts == "-", "{shown}");
    }
    let to_pool = ["task", "submit", "--follow", "--node-label", "role=db", "hello.sh", "all"];
    assert_eq!(scene.ended(&to_pool).code, Some(0));
    let json = ended(&["list", "--json", "--node-label", "role=db"]).json();
    let script =
        json["scripts"].as_array().unwrap().iter().find(|script| script["name"] == "hello.sh").unwrap();
    assert_eq!(
        (&script["versions"][0]["nodes"][0], &script["last"]["status"]),
        (&"db-1".into(), &"succeeded".into())
    );

    assert!(ended(&["list", "--node", "db-2"]).stderr.contains("there is no node 'db-2'"));
    assert!(ended(&["show", "no.sh", "--node", "db-1"]).stderr.contains("named 'no.sh'"));
    assert!(ended(&["list", "--node-label", "role"]).stderr.contains("label: a label's name and value"));
    let hints = [
        (&["--node", "db-1"][..], "--node db-1"),
        (&["--node-label", "role=db"], "--node-label role=db"),
        (&[], ""),
    ];
    for (target, place) in hints {
        let refused = scene.ended(&[&["task", "submit"], target, &["no.sh"]].concat());
        let hint = format!("hint: agent-cli list --server {} {place}", scene.url);
        let shows = format!("{} shows the scripts there\n", hint.trim_end());
        assert!(refused.code == Some(1) && refused.stderr.ends_with(&shows), "{}", refused.stderr);
    }
    let without_service = scene.caller.ended(["list", "--node", "db-1"]);
    assert!(without_service.stderr.contains("--server"), "{}", without_service.stderr);
    assert_eq!(
        (without_service.code, ended(&["list", "--node", "a", "--node-label", "b=c"]).code),
        (Some(2), Some(2))
    );
}

#[test]
fn a_node_is_removed_by_whoever_says_so_twice() {
    let scene = Scene::new();
    scene.connected();
    let unsure = scene.ended(&["node", "remove", "db-1"]);
    assert_eq!(unsure.code, Some(1));
    assert!(
        unsure.stderr.contains("nothing was forgotten") && unsure.stderr.contains("--yes"),
        "{}",
        unsure.stderr
    );
    let early = scene.ended(&["node", "remove", "--yes", "db-1"]);
    assert!(early.code == Some(1) && early.stderr.contains("'db-1' is connected"), "{}", early.stderr);
    let Scene { caller, url, _server, node } = scene;
    drop(node);
    let ended = |words: &[&str]| caller.ended([words, &["--server", &url, "--token-file", "boss"]].concat());
    eventually("its leaving", || ended(&["node", "list"]).text().contains("db-1  away").then_some(()));
    let typed = |answer: &str| {
        fs::write(caller.path("answer"), answer).unwrap();
        let input = fs::File::open(caller.path("answer")).unwrap();
        typing(
            &caller,
            &["node", "remove", "db-1", "--server", &url, "--token-file", "boss"],
            &[],
            input.into(),
        )
    };
    for answer in ["yes\n", "\n", ""] {
        let shown = typed(answer);
        assert!(
            shown.contains("type its name") && shown.contains("nothing was forgotten"),
            "{answer:?}: {shown:?}"
        );
    }
    assert!(ended(&["node", "list"]).text().contains("db-1  away"));
    assert!(typed("db-1\n").contains("db-1 is forgotten"));
    assert_eq!(
        (ended(&["node", "list"]).text(), ended(&["node", "list"]).stderr.as_str()),
        (String::new(), "no node has connected\n")
    );
    let again = ended(&["node", "remove", "--yes", "db-1"]);
    assert!(again.code == Some(1) && again.stderr.contains("there is no node 'db-1'"), "{}", again.stderr);
}

#[test]
fn all_pages_of_nodes_are_followed() {
    let site = Site::new();
    write(&site.path("token"), "dag_token", 0o600);
    let (url, _) = endless();
    let ended = site.ended(["node", "list", "--server", &url, "--token-file", "token"]);
    let names: Vec<String> =
        ended.text().lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(
        (ended.code, names),
        (Some(0), vec!["a.sh".to_owned(), "b.sh".to_owned()]),
        "{}",
        ended.stderr
    );
}
