-- What is known of each message that was taken in; its text is a file, at `path` below the boxes.
CREATE DATABASE mail;
CREATE TABLE mail.messages (
  message_id VARCHAR(250) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  recipient  VARCHAR(250) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  sender     VARCHAR(320) NOT NULL,
  path       VARCHAR(600) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  size       INT UNSIGNED NOT NULL,
  sha256     CHAR(64) CHARACTER SET ascii NOT NULL,
  received   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (message_id, recipient)
) ENGINE=InnoDB;
-- It has no right READ_ONLY ADMIN: a frozen server refuses what it writes.
CREATE USER mail@'127.0.0.1';
GRANT SELECT, INSERT ON mail.messages TO mail@'127.0.0.1';
