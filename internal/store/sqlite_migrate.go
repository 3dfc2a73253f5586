package store

import (
	"context"
	"database/sql"
	"fmt"
)

// migrate brings the schema up to date.
func migrate(ctx context.Context, c *sql.Conn) error {
	var version int
	if err := c.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if err := checkVersion(version, sqliteScripts); err != nil {
		return err
	}
	for ; version < len(sqliteScripts); version++ {
		if _, err := c.ExecContext(ctx, fmt.Sprintf("BEGIN; %s; PRAGMA user_version = %d; COMMIT", sqliteScripts[version], version+1)); err != nil {
			return fmt.Errorf("schema version %d: %w", version+1, err)
		}
	}
	return nil
}
