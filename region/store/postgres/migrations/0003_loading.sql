-- True while an import fills the database: half of a store is not served.
ALTER TABLE homing_store ADD COLUMN loading boolean NOT NULL DEFAULT false;
