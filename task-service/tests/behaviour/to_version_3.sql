-- Version 3 of the database, made of version 2, with words in a table of FTS5.
DROP INDEX task_created;
ALTER TABLE task ADD COLUMN hour INTEGER GENERATED ALWAYS AS (created_at / 3600000000000) VIRTUAL;
CREATE INDEX task_hour ON task (hour);
CREATE INDEX task_node ON task (node) WHERE node IS NOT NULL;
CREATE TABLE label_of_place (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, value, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO label_of_place SELECT key, value, seq FROM label ORDER BY key, value, seq;
DROP TABLE label;
ALTER TABLE label_of_place RENAME TO label;
CREATE VIRTUAL TABLE task_text USING fts5(words, content = '', contentless_delete = 1, detail = none,
    tokenize = 'ascii');
CREATE VIRTUAL TABLE task_word USING fts5vocab(task_text, instance);
INSERT INTO task_text (rowid, words) SELECT seq, name || ' ' || created_by FROM task;
PRAGMA user_version = 3;
