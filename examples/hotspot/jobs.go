package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// job is one kind of background work.
type job struct {
	name string
	task func(given, *parameters) task
}

// task is what a job does in one run.
type task struct {
	// plan says it, for a run that has no database.
	plan       string
	statements []statement
}

// execute does the job for the tenant it was given. RUN_SECONDS and SIMULATE_FAILURE, parameters of every job, make it
// last and make it fail. A run without a credential for the database only says what it would do.
func (j job) execute(ctx context.Context, env environment, now time.Time, log *slog.Logger) error {
	g, err := readGiven(env, now)
	if err != nil {
		return err
	}
	p := &parameters{env: env}
	t := j.task(g, p)
	lasts := p.seconds("RUN_SECONDS")
	fails := p.flag("SIMULATE_FAILURE")
	if err := p.err(); err != nil {
		return err
	}
	database, err := readBinding(env)
	if err != nil {
		return err
	}

	log.Info("started", g.logged()...)
	if database == nil {
		log.Info(t.plan)
	}
	if g.attributes["MAINTENANCE"] == "true" {
		return errors.New("the tenant's database is in maintenance, says its attribute maintenance")
	}
	if database != nil {
		if err := execute(ctx, database, t.statements, log); err != nil {
			return err
		}
	}
	if err := wait(ctx, lasts); err != nil {
		return err
	}
	if fails {
		return errors.New("failed, as SIMULATE_FAILURE told it to")
	}
	log.Info("done")
	return nil
}

// wait takes its time, but not when it is told to stop.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return errStopped
	case <-time.After(d):
		return nil
	}
}

// pending instead of an id means all that an event should have dispatched, and did not.
const pending = "pending"

// oneOrPending names what a job is about.
func oneOrPending(kind, id string) string {
	if id == pending {
		return "every " + kind + " that is pending"
	}
	return kind + " " + id
}

// exists fails when there is no row with the id that is asked for in the table of things of this kind.
func exists(table, kind, id string) statement {
	s := statement{sql: "SELECT FROM " + table + " WHERE $1 = 'pending' OR id::text = $1", args: []any{id}}
	if id != pending {
		s.missing = fmt.Sprintf("there is no %s %s", kind, id)
	}
	return s
}

// jobs, the most urgent first. Queues and priorities are the templates' business.
var jobs = []job{
	{"check-expired-subscriptions", func(g given, p *parameters) task {
		grace := p.number("GRACE_DAYS")
		return task{
			plan: fmt.Sprintf("would disconnect users whose subscription ended more than %d days ago, before %s",
				grace, g.dayText(-grace)),
			statements: []statement{{
				done: "subscriptions expired",
				sql:  "UPDATE subscriptions SET status = 'expired' WHERE status = 'active' AND ends_on < $1",
				args: []any{g.day(-grace)},
			}, {
				done: "users disconnected",
				sql: `UPDATE users SET status = 'disconnected' WHERE status <> 'disconnected'
					AND id IN (SELECT user_id FROM subscriptions WHERE status = 'expired')`,
			}, {
				done: "sessions ended",
				sql: `UPDATE sessions SET end_reason = 'expired' WHERE end_reason IS NULL
					AND user_id IN (SELECT user_id FROM subscriptions WHERE status = 'expired')`,
			}},
		}
	}},
	{"send-payment-reminders", func(g given, p *parameters) task {
		ahead, channel := p.number("DAYS_AHEAD"), p.text("CHANNEL")
		return task{
			plan: fmt.Sprintf("would remind users by %s whose subscription ends within %d days, until %s",
				channel, ahead, g.dayText(ahead)),
			statements: []statement{{
				done: "reminders sent",
				sql: `INSERT INTO reminders (subscription_id, ends_on, channel)
					SELECT id, ends_on, $1 FROM subscriptions WHERE status = 'active' AND ends_on BETWEEN $2 AND $3
					ON CONFLICT DO NOTHING`,
				args: []any{channel, g.day(0), g.day(ahead)},
			}},
		}
	}},
	{"process-payment", func(g given, p *parameters) task {
		id := p.text("PAYMENT_ID")
		payment := oneOrPending("payment", id)
		if currency := g.attributes["CURRENCY"]; currency != "" {
			payment += " in " + currency
		}
		return task{
			plan: fmt.Sprintf("would charge %s, with idempotency key %q", payment, g.jobUID),
			statements: []statement{exists("payments", "payment", id), {
				done: "payments charged",
				sql: `UPDATE payments SET status = 'charged', charged_on = $2, currency = $3, idempotency_key = $4
					WHERE status = 'pending' AND ($1 = 'pending' OR id::text = $1)`,
				args: []any{id, g.day(0), g.attributes["CURRENCY"], g.jobUID},
			}},
		}
	}},
	{"disconnect-user", func(_ given, p *parameters) task {
		id, reason := p.text("USER_ID"), p.text("REASON")
		return task{
			plan: fmt.Sprintf("would disconnect %s everywhere, reason %s", oneOrPending("user", id), reason),
			statements: []statement{exists("users", "user", id), {
				done: "sessions ended",
				sql: `UPDATE sessions SET end_reason = $2 WHERE end_reason IS NULL AND user_id IN (
					SELECT id FROM users WHERE CASE WHEN $1 = 'pending' THEN status = 'leaving' ELSE id::text = $1 END)`,
				args: []any{id, reason},
			}, {
				done: "users disconnected",
				sql: `UPDATE users SET status = 'disconnected' WHERE status <> 'disconnected'
					AND CASE WHEN $1 = 'pending' THEN status = 'leaving' ELSE id::text = $1 END`,
				args: []any{id},
			}},
		}
	}},
	{"process-grace-period", func(g given, p *parameters) task {
		grace, limit := p.number("GRACE_DAYS"), p.number("LIMIT_KBPS")
		return task{
			plan: fmt.Sprintf("would slow users down to %d kbit/s whose subscription ended in the last %d days, since %s",
				limit, grace, g.dayText(-grace)),
			statements: []statement{{
				done: "users slowed down",
				sql: `UPDATE users SET limit_kbps = $1 WHERE limit_kbps IS DISTINCT FROM $1 AND id IN (
					SELECT user_id FROM subscriptions WHERE status = 'active' AND ends_on >= $2 AND ends_on < $3)`,
				args: []any{limit, g.day(-grace), g.day(0)},
			}},
		}
	}},
	{"check-routers", func(_ given, p *parameters) task {
		timeout, failures := p.number("TIMEOUT_SECONDS"), p.number("ALERT_AFTER_FAILURES")
		return task{
			plan: fmt.Sprintf("would ask each router for its health, wait %d s for it, and alert after %d failures", timeout, failures),
			statements: []statement{{
				done: "routers asked",
				sql: `UPDATE routers SET last_reply = CASE WHEN answers THEN now() ELSE last_reply END,
					failures = CASE WHEN answers THEN 0 ELSE failures + 1 END WHERE status = 'provisioned'`,
			}, {
				done: "alerts changed",
				sql:  "UPDATE routers SET alert = NOT alert WHERE alert <> (failures >= $1)",
				args: []any{failures},
			}},
		}
	}},
	{"router-provisioning", func(_ given, p *parameters) task {
		id, profile := p.text("ROUTER_ID"), p.text("PROFILE")
		s := statement{
			sql: `INSERT INTO routers (id, profile, status) VALUES ($1, $2, 'provisioned')
				ON CONFLICT (tenant_id, id) DO UPDATE SET profile = excluded.profile, status = excluded.status`,
			args: []any{id, profile},
		}
		if id == pending {
			s = statement{sql: "UPDATE routers SET profile = $1, status = 'provisioned' WHERE status = 'pending'", args: []any{profile}}
		}
		s.done = "routers provisioned"
		return task{
			plan:       fmt.Sprintf("would provision %s with profile %s", oneOrPending("router", id), profile),
			statements: []statement{s},
		}
	}},
	{"sync-access-point-status", func(_ given, p *parameters) task {
		stale := p.number("STALE_MINUTES")
		return task{
			plan: fmt.Sprintf("would ask for the status of access points that were not heard of for %d minutes", stale),
			statements: []statement{{
				done: "access points silent",
				sql:  "UPDATE access_points SET status = 'silent' WHERE status = 'up' AND last_report < now() - make_interval(mins => $1)",
				args: []any{stale},
			}},
		}
	}},
	{"update-vpn-status", func(_ given, p *parameters) task {
		age := p.number("HANDSHAKE_SECONDS")
		return task{
			plan: fmt.Sprintf("would mark VPN peers as down whose last handshake is older than %d s", age),
			statements: []statement{{
				done: "VPN peers down",
				sql:  "UPDATE vpn_peers SET status = 'down' WHERE status = 'up' AND last_handshake < now() - make_interval(secs => $1)",
				args: []any{age},
			}},
		}
	}},
	{"update-dashboard-stats", func(g given, p *parameters) task {
		window := p.number("WINDOW_DAYS")
		return task{
			plan: fmt.Sprintf("would compute the dashboard of the last %d days, since %s", window, g.dayText(-window)),
			statements: []statement{{
				done: "dashboards computed",
				sql: `INSERT INTO dashboard_stats (window_days, users, revenue, bytes) SELECT $1,
					(SELECT count(*) FROM users WHERE status = 'active'),
					(SELECT coalesce(sum(amount), 0) FROM payments WHERE charged_on >= $2),
					(SELECT coalesce(sum(bytes), 0) FROM sessions)
					ON CONFLICT (tenant_id, window_days) DO UPDATE
					SET users = excluded.users, revenue = excluded.revenue, bytes = excluded.bytes`,
				args: []any{window, g.day(-window)},
			}},
		}
	}},
	{"sync-radius-accounting", func(_ given, p *parameters) task {
		batch := p.number("BATCH_SIZE")
		return task{
			plan: fmt.Sprintf("would take over RADIUS accounting records, %d at a time", batch),
			statements: []statement{{
				done:    "accounting records taken over",
				batches: true,
				sql: `WITH batch AS (
						SELECT id, session_id, bytes FROM radius_accounting WHERE NOT copied ORDER BY id LIMIT $1
					), added AS (
						UPDATE sessions SET bytes = sessions.bytes + used.bytes
						FROM (SELECT session_id, sum(bytes) AS bytes FROM batch GROUP BY session_id) used WHERE sessions.id = used.session_id
					)
					UPDATE radius_accounting SET copied = true FROM batch WHERE radius_accounting.id = batch.id`,
				args: []any{batch},
			}},
		}
	}},
	{"check-expired-sessions", func(_ given, p *parameters) task {
		idle := p.number("IDLE_MINUTES")
		return task{
			plan: fmt.Sprintf("would close sessions that were idle for more than %d minutes", idle),
			statements: []statement{{
				done: "sessions closed",
				sql: `UPDATE sessions SET end_reason = 'idle'
					WHERE end_reason IS NULL AND last_activity < now() - make_interval(mins => $1)`,
				args: []any{idle},
			}},
		}
	}},
}
