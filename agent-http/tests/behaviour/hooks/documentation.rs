//! The commands of the page about hooks, executed as they stand.

use std::fs;

use crate::documentation::commands;
use crate::examples::{blocks_of, page};
use crate::support::{Service, Site, eventually};

const ADDRESS: &str = "127.0.0.1:8848";

/// Executes a block against a service, and gives what it prints.
fn shell(service: &Service, block: &str) -> String {
    commands(service.site.folder(), &block.replace(ADDRESS, &service.at.to_string()))
}

#[test]
fn the_commands_of_the_page_do_what_it_says() {
    let page = page("docs/hooks.md");
    let [script, secret, call, find, standard_secret, standard, add, remove] =
        blocks_of(&page, "sh").try_into().expect("eight blocks");
    let [github, billing] = blocks_of(&page, "toml").try_into().expect("two blocks");
    let site = Site::bare(&format!("{github}{billing}"));
    for block in [&script, &secret, &standard_secret] {
        commands(site.folder(), block);
    }
    let checked = site.command().arg("--check-config").output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let service = site.start();
    let said = shell(&service, &call);
    assert!(said.starts_with("HTTP/1.1 202") && said.contains("\"status\":"), "{said}");
    let id = said.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(shell(&service, &call).starts_with("HTTP/1.1 200"));
    let elsewhere = shell(&service, &call.replace("refs/heads/main", "refs/heads/other"));
    assert!(elsewhere.starts_with("HTTP/1.1 200") && elsewhere.contains("ignored"), "{elsewhere}");
    let token = service.site.path("state/token");
    let found =
        shell(&service, &find.replace("--server", &format!("--token-file {} --server", token.display())));
    assert!(found.contains(&id) && found.contains("deploy/web.sh"), "{found}");
    let log = format!(
        "agent-cli task logs {id} --follow --token-file {} --server http://{ADDRESS}",
        token.display()
    );
    assert!(shell(&service, &log).contains("deploying 1f2e3d of refs/heads/main"));
    let said = shell(&service, &standard);
    assert!(said.starts_with("HTTP/1.1 202"), "{said}");

    // The call takes the whole file as its secret, which is the right one where it has one line.
    let by = |line: &str, number: u32| {
        let call = call.replace("$(cat deploy-web.secret)", &format!("$({line} deploy-web.secret)"));
        call.replace("delivery-1", &format!("{line}-{number}"))
    };
    let is_right = |line: &str, number| shell(&service, &by(line, number)).starts_with("HTTP/1.1 202");
    let old = fs::read_to_string(service.site.path("deploy-web.secret")).unwrap();
    shell(&service, &add);
    eventually("the new secret", || is_right("tail -n 1", 1).then_some(()));
    assert!(is_right("head -n 1", 2));
    shell(&service, &remove);
    let former = by(&format!("printf %s {} #", old.trim()), 3).replace(" deploy-web.secret)", "\n)");
    eventually("the old one to be gone", || {
        shell(&service, &former).starts_with("HTTP/1.1 401").then_some(())
    });
    assert!(is_right("cat", 4));
}
