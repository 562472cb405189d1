package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// payments dispatches process-payment.
type payments struct {
	kube client.Client
	// domain is the one whose subdomains are the customers' hosts.
	domain string
	// keys has a file for each tenant, whose name is the tenant's: the password of that customer's webhooks.
	keys fs.FS
	log  *slog.Logger
}

// Why a payment is not dispatched, beside what the API server answers.
var (
	errUnauthenticated = errors.New("not the password of this host")
	errInvalidID       = errors.New("the id of a payment has up to 18 digits, and no zero in front")
	errUnknownTenant   = errors.New("this host belongs to no customer")
	errDifferent       = errors.New("something else was dispatched under the name of this payment")
	errTryLater        = errors.New("not possible now")
)

const (
	// timeout of a request. Payment providers wait for an answer for 10 to 30 seconds, and deliver again without one.
	timeout = 8 * time.Second
	// retrySeconds is when to try again, unless the API server says when.
	retrySeconds = 10
)

func handler(p *payments) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /payments/{id}", p)
	return mux
}

// ServeHTTP takes a webhook: "payment {id} has to be processed". A provider delivers it again when it had no answer in time, and at
// times twice at once. All of them have the same effect as one, and the same answer.
func (p *payments) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	id := r.PathValue("id")
	tenant, err := p.authenticate(r)
	if err == nil {
		err = p.dispatch(ctx, tenant, id)
	}
	code, text := answer(err)
	log := p.log.With("host", r.Host, "payment", id, "code", code)
	if err != nil {
		log.Error("not dispatched", "error", err)
	} else {
		log.Info("dispatched")
	}
	switch code {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter(err)))
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="webhooks"`)
	}
	http.Error(w, text, code)
}

// What the names of tenants and the ids of payments can be. An id has one spelling, since it becomes a part of a name. The parameter
// could also be the word "pending", which stands for all payments of the tenant, and which nobody outside may say.
var (
	tenantName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)
	paymentID  = regexp.MustCompile(`^[1-9][0-9]{0,17}$`)
)

// authenticate returns the tenant that a request has authenticated itself for. It is in the host name, acme.hotspot.example say. The
// host alone proves nothing, since a client can send any: the password is that tenant's own, and opens no other tenant's host.
//
// The role of this application lets it dispatch for every tenant, so this function decides alone for which one it does. So a tenant
// never comes from what a client may choose freely: the body, a parameter, a header such as X-Forwarded-Host. Take it from what your
// application has authenticated: the session of a user who is logged in, a verified token, or the provider's signature. If the
// provider signs the body, check that with the tenant's key, and take the payment's id from the body, too.
func (p *payments) authenticate(r *http.Request) (string, error) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	tenant, found := strings.CutSuffix(strings.ToLower(host), "."+p.domain)
	if !found || !tenantName.MatchString(tenant) {
		return "", errUnauthenticated
	}
	key, err := fs.ReadFile(p.keys, tenant)
	key = bytes.TrimSpace(key)
	// The answer is the same whether there is no such tenant or the password is wrong, so that nobody learns who the customers are.
	_, password, _ := r.BasicAuth()
	if err != nil || len(key) == 0 || subtle.ConstantTimeCompare([]byte(password), key) != 1 {
		return "", errUnauthenticated
	}
	return tenant, nil
}

// dispatch creates the TenantJob of a payment unless it exists.
func (p *payments) dispatch(ctx context.Context, name, id string) error {
	if !paymentID.MatchString(id) {
		return errInvalidID
	}
	tenant := &v1alpha1.Tenant{}
	err := p.kube.Get(ctx, client.ObjectKey{Name: name}, tenant)
	if apierrors.IsNotFound(err) || !tenant.DeletionTimestamp.IsZero() {
		return errUnknownTenant
	}
	if err != nil {
		return fmt.Errorf("reading Tenant %s: %w", name, err)
	}
	if tenant.Status.Namespace == nil {
		return fmt.Errorf("%w: Tenant %s has no namespace yet", errTryLater, name)
	}
	// No more of the Tenant's status matters: for a tenant that is suspended, for example, the TenantJob waits until it is resumed.
	tj := newTenantJob(tenant, id)
	err = p.kube.Create(ctx, tj)
	if apierrors.IsAlreadyExists(err) {
		return p.compare(ctx, tj)
	}
	if err != nil {
		return fmt.Errorf("creating TenantJob %s in namespace %s: %w", tj.Name, tj.Namespace, err)
	}
	return nil
}

// newTenantJob returns the TenantJob of a payment. Its name is derived from the payment, so the API server accepts it once only, from
// whichever replica of the application. A name has at most 63 characters; these have at most 35. The p before the id keeps an id of
// eight digits apart from the names of scheduled runs, which end with a hyphen and eight digits: an admission policy refuses those.
func newTenantJob(tenant *v1alpha1.Tenant, id string) *v1alpha1.TenantJob {
	return &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Status.Namespace.Name, Name: "process-payment-p" + id},
		Spec: v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: tenant.Name},
			TemplateRef: v1alpha1.LabelReference{Name: "process-payment"},
			Parameters:  map[string]v1alpha1.ParameterValue{"paymentID": v1alpha1.ParameterValue(id)},
		},
	}
}

// compare returns nil if the TenantJob that has the name is for the same. It may have ended already.
func (p *payments) compare(ctx context.Context, tj *v1alpha1.TenantJob) error {
	existing := &v1alpha1.TenantJob{}
	if err := p.kube.Get(ctx, client.ObjectKeyFromObject(tj), existing); err != nil {
		return fmt.Errorf("reading TenantJob %s in namespace %s: %w", tj.Name, tj.Namespace, err)
	}
	switch {
	case existing.Spec.TenantRef != tj.Spec.TenantRef, existing.Spec.TemplateRef != tj.Spec.TemplateRef,
		!maps.Equal(existing.Spec.Parameters, tj.Spec.Parameters):
		return errDifferent
	case !existing.DeletionTimestamp.IsZero():
		return fmt.Errorf("%w: TenantJob %s in namespace %s is being deleted", errTryLater, tj.Name, tj.Namespace)
	}
	return nil
}

// answer is the status code and the text for the caller. The API server's own words are for the log: they have names of the cluster.
func answer(err error) (code int, text string) {
	switch {
	case err == nil:
		return http.StatusAccepted, "accepted"
	case errors.Is(err, errUnauthenticated):
		return http.StatusUnauthorized, err.Error()
	case errors.Is(err, errInvalidID):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, errUnknownTenant):
		return http.StatusNotFound, err.Error()
	case errors.Is(err, errDifferent):
		return http.StatusConflict, err.Error()
	case isRefused(err):
		return http.StatusInternalServerError, "this needs a person to look at the log"
	}
	// The API server is overloaded, restarts or does not answer; the namespace is being made again; a quota was changed at the same time.
	// When there was no answer, the TenantJob may exist, and the next delivery finds it.
	return http.StatusServiceUnavailable, errTryLater.Error()
}

// isRefused reports whether the API server will say the same until a person has changed something: the application lacks the role, the
// tenant has as many TenantJobs as its quota allows, an admission policy forbids it.
func isRefused(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsUnauthorized(err) ||
		apierrors.IsForbidden(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// retryAfter is in how many seconds to try again.
func retryAfter(err error) int {
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok && seconds > 0 {
		return seconds
	}
	return retrySeconds
}
