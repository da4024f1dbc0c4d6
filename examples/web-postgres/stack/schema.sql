CREATE ROLE app LOGIN PASSWORD :'password';
CREATE DATABASE shop;
\connect shop
CREATE TABLE orders (
  id uuid PRIMARY KEY,
  site text NOT NULL,
  body text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON orders TO app;
