package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// job is one kind of background work. As long as there is no database, it says what it would do.
type job struct {
	name string
	plan func(given, *parameters) string
}

// execute does the job for the tenant it was given. RUN_SECONDS and SIMULATE_FAILURE, parameters of every job, make it
// last and make it fail.
func (j job) execute(ctx context.Context, env environment, now time.Time, log *slog.Logger) error {
	g, err := readGiven(env, now)
	if err != nil {
		return err
	}
	p := &parameters{env: env}
	plan := j.plan(g, p)
	lasts := p.seconds("RUN_SECONDS")
	fails := p.flag("SIMULATE_FAILURE")
	if err := p.err(); err != nil {
		return err
	}

	log.Info("started", g.logged()...)
	log.Info(plan)
	if g.attributes["MAINTENANCE"] == "true" {
		return errors.New("the tenant's database is in maintenance, says its attribute maintenance")
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

// jobs, the most urgent first. Queues and priorities are the templates' business.
var jobs = []job{
	{"check-expired-subscriptions", func(g given, p *parameters) string {
		grace := p.number("GRACE_DAYS")
		return fmt.Sprintf("would disconnect users whose subscription ended more than %d days ago, before %s",
			grace, g.day(-grace))
	}},
	{"send-payment-reminders", func(g given, p *parameters) string {
		ahead, channel := p.number("DAYS_AHEAD"), p.text("CHANNEL")
		return fmt.Sprintf("would remind users by %s whose subscription ends within %d days, until %s",
			channel, ahead, g.day(ahead))
	}},
	{"process-payment", func(g given, p *parameters) string {
		payment := oneOrPending("payment", p.text("PAYMENT_ID"))
		if currency := g.attributes["CURRENCY"]; currency != "" {
			payment += " in " + currency
		}
		return fmt.Sprintf("would charge %s, with idempotency key %q", payment, g.jobUID)
	}},
	{"disconnect-user", func(_ given, p *parameters) string {
		return fmt.Sprintf("would disconnect %s everywhere, reason %s", oneOrPending("user", p.text("USER_ID")), p.text("REASON"))
	}},
	{"process-grace-period", func(g given, p *parameters) string {
		grace, limit := p.number("GRACE_DAYS"), p.number("LIMIT_KBPS")
		return fmt.Sprintf("would slow users down to %d kbit/s whose subscription ended in the last %d days, since %s",
			limit, grace, g.day(-grace))
	}},
	{"check-routers", func(_ given, p *parameters) string {
		return fmt.Sprintf("would ask each router for its health, wait %d s for it, and alert after %d failures",
			p.number("TIMEOUT_SECONDS"), p.number("ALERT_AFTER_FAILURES"))
	}},
	{"router-provisioning", func(_ given, p *parameters) string {
		return fmt.Sprintf("would provision %s with profile %s", oneOrPending("router", p.text("ROUTER_ID")), p.text("PROFILE"))
	}},
	{"sync-access-point-status", func(_ given, p *parameters) string {
		return fmt.Sprintf("would ask for the status of access points that were not heard of for %d minutes",
			p.number("STALE_MINUTES"))
	}},
	{"update-vpn-status", func(_ given, p *parameters) string {
		return fmt.Sprintf("would mark VPN peers as down whose last handshake is older than %d s",
			p.number("HANDSHAKE_SECONDS"))
	}},
	{"update-dashboard-stats", func(g given, p *parameters) string {
		window := p.number("WINDOW_DAYS")
		return fmt.Sprintf("would compute the dashboard of the last %d days, since %s", window, g.day(-window))
	}},
	{"sync-radius-accounting", func(_ given, p *parameters) string {
		return fmt.Sprintf("would take over RADIUS accounting records, %d at a time", p.number("BATCH_SIZE"))
	}},
	{"check-expired-sessions", func(_ given, p *parameters) string {
		return fmt.Sprintf("would close sessions that were idle for more than %d minutes", p.number("IDLE_MINUTES"))
	}},
}
