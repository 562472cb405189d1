package postgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

// Check looks for ways in which a run could do more than it should: in the catalogue, and by trying it as a tenant that does not
// exist. It leaves out what the table tenantry.exceptions names.
func (p *Provider) Check(ctx context.Context, credentials []v1alpha1.TenantCredential) ([]credential.Finding, error) {
	const doing = "checking the database"
	shared := len(credentials) == 0 || slices.ContainsFunc(credentials, func(c v1alpha1.TenantCredential) bool { return c.Postgres == nil })
	var findings []credential.Finding
	for _, look := range []func() ([]credential.Finding, error){
		func() ([]credential.Finding, error) { return p.findingsOfCatalogue(ctx, shared) },
		func() ([]credential.Finding, error) { return p.findingsOfSchemas(ctx, credentials) },
		func() ([]credential.Finding, error) { return p.findingsOfTrial(ctx, shared) },
	} {
		found, err := look()
		if err != nil {
			return nil, p.describe(ctx, err, doing)
		}
		findings = append(findings, found...)
	}
	if _, err := p.pool.Exec(ctx, "SELECT tenantry.drop_unused_groups()"); err != nil && !isConflict(err) {
		return nil, p.describe(ctx, err, doing)
	}
	return tidy(findings), nil
}

// tidy sorts findings. The trial finds what the catalogue has told already, and then adds nothing. Nor does a view, while something is
// wrong that it may come from: the next check shows it again if it does not.
func tidy(findings []credential.Finding) []credential.Finding {
	explained := map[string]bool{}
	isView := func(f credential.Finding) bool { return strings.HasPrefix(f.Object, "view ") }
	cause := slices.ContainsFunc(findings, func(f credential.Finding) bool { return !isView(f) })
	for _, f := range findings {
		if f.Problem != readByNobody {
			explained[f.Object] = true
			// An object of this kind is, for example, `policy all_rows on table public.payments`.
			if _, table, ok := strings.Cut(f.Object, " on "); ok {
				explained[table] = true
			}
		}
	}
	findings = slices.DeleteFunc(findings, func(f credential.Finding) bool {
		return f.Problem == readByNobody && (explained[f.Object] || isView(f) && cause)
	})
	slices.SortFunc(findings, func(a, b credential.Finding) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Problem, b.Problem))
	})
	return slices.Compact(findings)
}

// findingsOfCatalogue returns what tenantry.findings returns.
func (p *Provider) findingsOfCatalogue(ctx context.Context, shared bool) ([]credential.Finding, error) {
	var findings []credential.Finding
	err := p.try(ctx, func() error {
		rows, err := p.pool.Query(ctx, "SELECT object, problem, remedy FROM tenantry.findings($1)", shared)
		if err != nil {
			return err
		}
		findings, err = pgx.CollectRows(rows, pgx.RowToStructByPos[credential.Finding])
		return err
	})
	return findings, err
}

// findingsOfSchemas returns which of the tenants' own schemas others may use.
func (p *Provider) findingsOfSchemas(ctx context.Context, credentials []v1alpha1.TenantCredential) ([]credential.Finding, error) {
	schemas := map[string][]string{}
	for _, c := range credentials {
		if t := p.targetOf(c); t.schema != "" && tooLong(c) == "" {
			schemas[t.database] = append(schemas[t.database], t.schema)
		}
	}
	exceptions, err := p.exceptions(ctx)
	if err != nil {
		return nil, err
	}
	var findings []credential.Finding
	for _, database := range slices.Sorted(maps.Keys(schemas)) {
		found, err := p.findingsOfSchemasIn(ctx, database, schemas[database])
		if hasCode(err, codeUnknownDatabase, codePermissionDenied) && database != p.Database {
			// Then no run gets there either, and Issue says so for that tenant.
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if !exceptions[f.Object] {
				findings = append(findings, f)
			}
		}
	}
	return findings, nil
}

func (p *Provider) findingsOfSchemasIn(ctx context.Context, database string, schemas []string) ([]credential.Finding, error) {
	query := `SELECT format('schema %I of database %I', n.nspname, current_database()),
			'others than its tenant have ' || string_agg(DISTINCT a.privilege_type, ', ') || ' on it',
			format('REVOKE ALL ON SCHEMA %I FROM %s', n.nspname,
				string_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, ', '))
		FROM pg_namespace n JOIN pg_database d ON d.datname = current_database(), aclexplode(n.nspacl) a
		WHERE n.nspname = ANY ($1) AND (a.grantee IN (0, 'tenantry_tenant'::regrole)
			OR a.grantee::regrole::text ~ '^tenantry_schema_' AND a.grantee::regrole::text <> format('tenantry_schema_%s_%s', d.oid, n.oid))
		GROUP BY n.nspname`
	var findings []credential.Finding
	err := p.in(ctx, database, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, query, schemas)
		if err != nil {
			return err
		}
		findings, err = pgx.CollectRows(rows, pgx.RowToStructByPos[credential.Finding])
		return err
	})
	return findings, err
}

// exceptions returns the objects that a person has accepted as they are.
func (p *Provider) exceptions(ctx context.Context) (map[string]bool, error) {
	exceptions := map[string]bool{}
	err := p.try(ctx, func() error {
		rows, err := p.pool.Query(ctx, "SELECT object FROM tenantry.exceptions")
		if err != nil {
			return err
		}
		var object string
		_, err = pgx.ForEachRow(rows, []any{&object}, func() error {
			exceptions[object] = true
			return nil
		})
		return err
	})
	return exceptions, err
}
