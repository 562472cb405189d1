// Command web is the part of the sample application that its customers' payment provider calls. It does no work itself: for each
// payment it creates a TenantJob for the customer whose payment it is. It has the ClusterRole tenantry-dispatcher and no other rights.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, log)
	stop()
	if err != nil {
		log.Error(err.Error())
		os.Exit(1)
	}
}

// serve answers requests until the context is done, and then those that have come in before.
func serve(ctx context.Context, log *slog.Logger) error {
	// In a pod these are the API server's address and the token of the pod's service account, which is read again before it expires.
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	kube, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	server := &http.Server{
		Addr: cmp.Or(os.Getenv("LISTEN_ADDRESS"), ":8080"),
		Handler: handler(&payments{
			kube:   kube,
			domain: cmp.Or(os.Getenv("DOMAIN"), "hotspot.example"),
			keys:   os.DirFS(cmp.Or(os.Getenv("WEBHOOK_KEYS"), "/etc/hotspot/webhook-keys")),
			log:    log,
		}),
		ReadTimeout: 10 * time.Second,
	}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() { stopped <- server.Shutdown(context.Background()) })
	log.Info("listening", "address", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
