CREATE TABLE task (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    runner TEXT NOT NULL,
    status TEXT NOT NULL,
    node TEXT,
    attempt INTEGER NOT NULL,
    workspace TEXT,
    pinned TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    unreachable_since INTEGER,
    log_bytes INTEGER NOT NULL,
    request_sha256 BLOB NOT NULL,
    spec TEXT NOT NULL,
    result TEXT
) STRICT;
CREATE INDEX task_created ON task (created_at);
CREATE INDEX task_status ON task (status);
CREATE INDEX task_name ON task (name, status);
CREATE TABLE label (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES task (seq) ON DELETE CASCADE,
    PRIMARY KEY (key, value, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX label_task ON label (seq);
ALTER TABLE task ADD COLUMN lane TEXT;
ALTER TABLE task ADD COLUMN concurrency INTEGER;
ALTER TABLE task ADD COLUMN retry TEXT;
ALTER TABLE task ADD COLUMN not_before INTEGER;
ALTER TABLE task ADD COLUMN attempts TEXT;
INSERT INTO task (id, name, runner, status, attempt, created_by, created_at, started_at, ended_at, log_bytes,
    request_sha256, spec, result)
VALUES
    ('ended', 'manual', 'manual', 'succeeded', 1, 'tester', 1000, 2000, 3000, 0, zeroblob(32), '{"name":"manual"}', NULL),
    ('ran', 'manual', 'manual', 'running', 1, 'tester', 1000, 2000, NULL, 0, zeroblob(32), '{"name":"manual"}', NULL),
    ('waits', 'manual', 'manual', 'queued', 1, 'tester', 1000, NULL, NULL, 0, zeroblob(32), '{"name":"manual"}', NULL);
PRAGMA user_version = 2;
