package fencing

import (
	"context"
	"database/sql"
)

// Schema is the table in which the database remembers the latest holder of each lock.
const Schema = `CREATE TABLE IF NOT EXISTS fence (lock TEXT PRIMARY KEY, token BIGINT NOT NULL)`

// InTurn runs fn in a transaction of the holder with this token, or returns
// ErrOlder if a later holder has been here. Use it for what is only read as well:
// from then on nobody earlier can change it.
func InTurn(ctx context.Context, db *sql.DB, lock string, token uint64, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit

	// First of all: this also makes transactions of the same lock wait for each other.
	guard, err := tx.ExecContext(ctx, `
		INSERT INTO fence (lock, token) VALUES (?, ?)
		ON CONFLICT (lock) DO UPDATE SET token = excluded.token
		WHERE fence.token <= excluded.token`, lock, int64(token))
	if err != nil {
		return err
	}
	switch n, err := guard.RowsAffected(); {
	case err != nil:
		return err
	case n == 0:
		return ErrOlder
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}
