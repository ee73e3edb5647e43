//! `service_restart.sh`, with a stand-in for systemd that follows a plan.

use std::fs;

use super::{Place, Ran, SEARCH_PATH, run, write_program};

/// Writes each call to `calls`. States are taken line by line from `states`, the last one stays.
/// With the file `crashing` the service has another invocation each time it is asked.
const SYSTEMCTL: &str = r#"#!/bin/bash
cd -- "$TASK_WORK_DIR"
printf '%s\n' "$*" >>calls
property=${2#--property=}
case $1.$property in
    show.LoadState) cat load ;;
    show.ActiveState)
        head -n 1 states
        if (($(wc -l <states) > 1)); then sed -i 1d states; fi
        ;;
    show.InvocationID)
        if [[ -e crashing ]]; then wc -l <calls; else echo 1; fi
        ;;
    show.Type) cat type ;;
    show.Result) echo success ;;
    show.Id) cat id ;;
    show.*Action) cat "$property" 2>/dev/null || echo none ;;
    --no-ask-password.restart) exit "$(cat restart)" ;;
    *) echo "not foreseen: $*" >&2; exit 9 ;;
esac
"#;

const JOURNALCTL: &str = "#!/bin/bash\nprintf 'journal: %s\\n' \"$*\"\n";

/// Puts systemd's stand-in into place: every state the unit will be in, and how the restart ends.
fn systemd(place: &Place, states: &str, restart: &str) -> String {
    place.write("states", &format!("{}\n", states.replace(' ', "\n")));
    place.write("restart", restart);
    place.write("load", "loaded\n");
    place.write("type", "simple\n");
    place.write("id", "web@1.service\n");
    // Waiting is not what is tested; time still passes, since each try starts a few programs.
    write_program(&place.programs.path().join("sleep"), "#!/bin/sh\nexit 0\n");
    write_program(&place.programs.path().join("journalctl"), JOURNALCTL);
    place.stand_in("systemctl", SYSTEMCTL)
}

fn calls(place: &Place) -> String {
    fs::read_to_string(place.path("calls")).unwrap_or_default()
}

fn restart(place: &Place, path: &str) -> Ran {
    run("service_restart.sh", &["--settle", "1", "--lines=7", "web@1"], place, path)
}

#[test]
fn a_unit_is_restarted_and_waited_for() {
    let place = Place::new();
    let path = systemd(&place, "activating activating active", "0");
    let ran = restart(&place, &path);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert!(ran.text.contains("web@1.service is active"), "{}", ran.text);
    assert_eq!(
        (ran.params["UNIT"].as_str(), ran.params["ACTIVE_STATE"].as_str()),
        ("web@1.service", "active")
    );
    assert!(calls(&place).contains("--no-ask-password restart -- web@1.service\n"), "{}", calls(&place));
    assert!(!ran.text.contains("journal:"), "{}", ran.text);
}

#[test]
fn a_one_shot_unit_that_is_through_is_well() {
    let place = Place::new();
    let path = systemd(&place, "inactive", "0");
    place.write("type", "oneshot\n");
    let ran = restart(&place, &path);
    assert_eq!((ran.code, ran.params["ACTIVE_STATE"].as_str()), (Some(0), "inactive"), "{}", ran.text);
}

#[test]
fn every_way_to_fail_ends_with_1_and_the_journal() {
    for (states, code, said) in [
        ("failed", "0", "web@1.service failed"),
        ("inactive", "0", "web@1.service stopped again"),
        ("active active failed", "0", "did not stay active"),
        ("active", "5", "systemctl could not restart web@1.service (it ended with 5)"),
    ] {
        let place = Place::new();
        let path = systemd(&place, states, code);
        let ran = restart(&place, &path);
        assert_eq!(ran.code, Some(1), "{states}: {}", ran.text);
        assert!(ran.text.contains(said), "{states}: {}", ran.text);
        assert!(
            ran.text.contains("journal: --no-pager --output=short-iso --lines=7 --unit=web@1.service"),
            "{}",
            ran.text
        );
        assert_eq!(ran.params["UNIT"], "web@1.service");
    }
}

#[test]
fn a_unit_that_never_gets_active_is_given_up_in_time() {
    let place = Place::new();
    let path = systemd(&place, "activating", "0");
    let ran = run("service_restart.sh", &["--timeout=1", "web"], &place, &path);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
    assert!(ran.text.contains("web.service was still activating after 1 s"), "{}", ran.text);
}

#[test]
fn a_unit_that_systemd_starts_anew_is_not_well() {
    let place = Place::new();
    let path = systemd(&place, "active", "0");
    place.write("crashing", "");
    let ran = restart(&place, &path);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
    assert!(ran.text.contains("was started anew"), "{}", ran.text);
}

#[test]
fn a_unit_that_is_not_there_is_not_restarted() {
    let place = Place::new();
    let path = systemd(&place, "inactive", "0");
    place.write("load", "not-found\n");
    let ran = restart(&place, &path);
    assert_eq!(ran.code, Some(2), "{}", ran.text);
    assert!(ran.text.contains("systemd says not-found"), "{}", ran.text);
    assert!(!calls(&place).contains("restart"), "{}", calls(&place));
}

#[test]
fn names_that_are_no_unit_or_take_the_host_down_never_reach_systemctl() {
    for unit in [
        "--now",
        "-Hroot@elsewhere",
        "web*",
        "web?",
        "we[b]",
        "web db",
        "../web",
        "/etc/web.service",
        "$(touch planted)",
        "",
        "a\nb",
        "reboot.target",
        "poweroff.target",
        "tmp.mount",
        "user.slice",
        "systemd-reboot",
        "systemd-poweroff.service",
        "systemd-exit",
        "system-update-cleanup",
        "debug-shell.service",
    ] {
        let place = Place::new();
        let path = systemd(&place, "active", "0");
        let ran = run("service_restart.sh", &["--", unit], &place, &path);
        assert_eq!(ran.code, Some(2), "{unit:?}: {}", ran.text);
        assert_eq!(calls(&place), "", "{unit:?}");
    }
}

#[test]
fn without_the_check_a_pattern_and_a_reboot_reach_systemctl() {
    for unit in ["web*", "reboot.target"] {
        let place = Place::with_weakened(
            "service_restart.sh",
            &[("unit=${operands[0]}\ncheck_unit", "unit=${operands[0]}")],
        );
        let path = systemd(&place, "active", "0");
        let ran = run("service_restart.sh", &["--settle=0", unit], &place, &path);
        assert_eq!(ran.code, Some(0), "{}", ran.text);
        assert!(calls(&place).contains(&format!("restart -- {unit}\n")), "{}", calls(&place));
    }
}

#[test]
fn a_host_without_systemd_is_named_as_such() {
    let place = Place::new();
    // Only what the script needs before it looks for systemctl: bash, found through env.
    std::os::unix::fs::symlink("/bin/bash", place.programs.path().join("bash")).unwrap();
    let ran = run("service_restart.sh", &["web"], &place, &place.programs.path().display().to_string());
    assert_eq!(ran.code, Some(2), "{}", ran.text);
    assert!(ran.text.contains("systemctl is needed and not on PATH"), "{}", ran.text);
    assert_ne!(place.programs.path().display().to_string(), SEARCH_PATH);
}

/// What systemd says of a unit that takes the host down although its name does not say so: (property, value).
const HIDDEN: [(&str, &str); 6] = [
    ("id", "systemd-reboot.service"),
    ("id", "debug-shell.service"),
    ("SuccessAction", "poweroff"),
    ("FailureAction", "reboot-force"),
    ("StartLimitAction", "reboot"),
    ("JobTimeoutAction", "exit"),
];

#[test]
fn an_alias_and_a_unit_whose_end_takes_the_host_down_are_refused() {
    for (property, value) in HIDDEN {
        let place = Place::new();
        let path = systemd(&place, "active", "0");
        place.write(property, value);
        let ran = restart(&place, &path);
        assert_eq!(ran.code, Some(2), "{property} {value}: {}", ran.text);
        assert!(ran.text.contains("refused: web@1.service "), "{property} {value}: {}", ran.text);
        assert!(!calls(&place).contains("restart"), "{property} {value}: {}", calls(&place));
    }
}

#[test]
fn without_the_look_at_what_systemd_says_such_a_unit_is_restarted() {
    for (property, value) in HIDDEN {
        let place = Place::with_weakened("service_restart.sh", &[("check_loaded\n\nprintf", "printf")]);
        let path = systemd(&place, "active", "0");
        place.write(property, value);
        let ran = restart(&place, &path);
        assert_eq!(ran.code, Some(0), "{property} {value}: {}", ran.text);
    }
}
