package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Advisory locks, of this program in its database.
const (
	lockSchema   = 0x74666f0001
	lockIdentity = 0x74666f0002
)

// migratePostgres brings the schema up to date, all of the way or not at all.
func migratePostgres(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// Controllers that start together come one after the other.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockSchema)); err != nil {
			return err
		}
		version, err := postgresVersion(ctx, tx)
		if err != nil {
			return err
		}
		if err := checkVersion(version, postgresScripts); err != nil {
			return err
		}
		if version == len(postgresScripts) {
			return nil
		}
		for i, script := range postgresScripts[version:] {
			if _, err := tx.Exec(ctx, script); err != nil {
				return fmt.Errorf("schema version %d: %w", version+i+1, err)
			}
		}
		_, err = tx.Exec(ctx, `UPDATE schema_version SET version = $1`, len(postgresScripts))
		return err
	})
}

func postgresVersion(ctx context.Context, tx pgx.Tx) (version int, err error) {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('schema_version') IS NOT NULL`).Scan(&there); err != nil {
		return 0, err
	}
	if !there {
		_, err := tx.Exec(ctx, `CREATE TABLE schema_version (version integer NOT NULL); INSERT INTO schema_version VALUES (0)`)
		return 0, err
	}
	err = tx.QueryRow(ctx, `SELECT version FROM schema_version`).Scan(&version)
	return version, err
}
