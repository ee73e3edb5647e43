//! The log of a task in each of its states.

use task_service::{LogError, LogReader, LogSource};

use crate::support::{Bench, soon, with_id};

fn text(reader: &LogReader) -> String {
    let mut buffer = [0; 64];
    let count = reader.read_at(0, &mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_task_gives_its_log_when_it_starts() {
    let bench = Bench::new(1, 10).await;
    for id in ["first", "second"] {
        bench.submit(with_id(id)).await;
    }
    let LogSource::NotYet(wait) = bench.service.log(&"second".parse().unwrap()).await.unwrap() else {
        panic!("it waits");
    };
    let opening = tokio::spawn(wait.opened());
    bench.manual.next().await.exit(0);
    let second = bench.manual.next().await;
    let LogSource::Log(mut reader) = soon(opening).await.unwrap().unwrap() else { panic!("it runs") };
    assert!(!reader.progress().ended);
    second.exit(0);
    assert!(soon(reader.wait_beyond(0)).await.ended);
    bench.wait("second").await;
    let LogSource::Log(reader) = bench.service.log(&"second".parse().unwrap()).await.unwrap() else {
        panic!("it has ended with a log");
    };
    assert_eq!((text(&reader), reader.progress().ended), ("hello\n".to_owned(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_set_aside_without_its_result_is_told_apart_from_its_banners() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("t")).await;
    bench.manual.next().await.exit(0);
    bench.wait("t").await;
    let opened = async || match bench.service.log(&"t".parse().unwrap()).await.unwrap() {
        LogSource::Log(reader) => reader,
        _ => panic!("it has ended with a log"),
    };
    let before = opened().await.progress();
    let record = bench.state().join("tasks/t");
    std::fs::create_dir_all(record.join("attempts/1")).unwrap();
    std::fs::rename(record.join("stdout.txt"), record.join("attempts/1/stdout.txt")).unwrap();
    let after = opened().await;
    assert_eq!((after.progress().body_end, text(&after).as_str()), (before.body_end, "hello\n"));
    assert_eq!(before.body_end, Some(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_never_started_has_no_log_and_one_that_never_was_is_not_found() {
    let bench = Bench::new(1, 10).await;
    for id in ["runs", "waits"] {
        bench.submit(with_id(id)).await;
    }
    let LogSource::NotYet(wait) = bench.service.log(&"waits".parse().unwrap()).await.unwrap() else {
        panic!("it waits");
    };
    bench.service.cancel(&"waits".parse().unwrap()).await.unwrap();
    assert!(matches!(soon(wait.opened()).await.unwrap(), LogSource::None));
    assert!(matches!(bench.service.log(&"waits".parse().unwrap()).await.unwrap(), LogSource::None));
    let nobody = bench.service.log(&"nobody".parse().unwrap()).await;
    assert!(matches!(nobody.unwrap_err(), LogError::NotFound(_)));
    bench.manual.next().await.exit(0);
}
