package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// password is that of a tenant's webhooks.
func password(tenant string) string { return "key-of-" + tenant }

// newHandler serves the tenants of a test.
func newHandler(kube client.Client, tenants ...*v1alpha1.Tenant) http.Handler {
	keys := fstest.MapFS{"empty": {}, "forgotten": {Data: []byte(password("forgotten"))}}
	for _, tenant := range tenants {
		keys[tenant.Name] = &fstest.MapFile{Data: []byte(password(tenant.Name) + "\n")}
	}
	return handler(&payments{kube: kube, domain: "hotspot.example", keys: keys, log: slog.New(slog.DiscardHandler)})
}

// post delivers a webhook.
func post(t *testing.T, h http.Handler, host, password, id string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/payments/"+id, nil)
	request.Host = host
	request.SetBasicAuth("provider", password)
	for _, f := range change {
		f(request)
	}
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, request)
	return recorder
}

// deliver delivers a webhook to a tenant's own host.
func deliver(t *testing.T, h http.Handler, tenant *v1alpha1.Tenant, id string) *httptest.ResponseRecorder {
	t.Helper()
	return post(t, h, tenant.Name+".hotspot.example", password(tenant.Name), id)
}

func expectCode(t *testing.T, response *httptest.ResponseRecorder, want int) {
	t.Helper()
	if response.Code != want {
		t.Errorf("code %d, want %d: %s", response.Code, want, response.Body)
	}
}

func TestDispatch(t *testing.T) {
	t.Parallel()
	tenant := newTenant(t)
	h := newHandler(app, tenant)
	for range 2 {
		expectCode(t, deliver(t, h, tenant, "8231"), http.StatusAccepted)
		tjs := tenantJobs(t, tenant)
		if len(tjs) != 1 {
			t.Fatalf("%d TenantJobs", len(tjs))
		}
		want := v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: tenant.Name},
			TemplateRef: v1alpha1.LabelReference{Name: "process-payment"},
			Parameters:  map[string]v1alpha1.ParameterValue{"paymentID": "8231"},
		}
		if diff := cmp.Diff(want, tjs[0].Spec); diff != "" {
			t.Error(diff)
		}
	}
	// Names that end with a hyphen and eight digits are refused.
	ids := []string{"8", "20261130", "999999999999999999"}
	for _, id := range ids {
		expectCode(t, deliver(t, h, tenant, id), http.StatusAccepted)
	}
	if tjs := tenantJobs(t, tenant); len(tjs) != 1+len(ids) {
		t.Errorf("%d TenantJobs for %d payments", len(tjs), 1+len(ids))
	}
}

// TestDispatchInParallel delivers a webhook several times at once, and lets none of the requests create a TenantJob before all of them
// are about to.
func TestDispatchInParallel(t *testing.T) {
	t.Parallel()
	const deliveries = 4
	tenant := newTenant(t)
	var created sync.WaitGroup
	created.Add(deliveries)
	h := newHandler(interceptor.NewClient(app, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			created.Done()
			created.Wait()
			return c.Create(ctx, obj, opts...)
		},
	}), tenant)
	var answered sync.WaitGroup
	for range deliveries {
		answered.Go(func() { expectCode(t, deliver(t, h, tenant, "8231"), http.StatusAccepted) })
	}
	answered.Wait()
	if tjs := tenantJobs(t, tenant); len(tjs) != 1 {
		t.Errorf("%d TenantJobs", len(tjs))
	}
}

// TestAuthenticate: who does not have the password of a tenant's host dispatches nothing for it, and does not learn whether it exists.
func TestAuthenticate(t *testing.T) {
	t.Parallel()
	acme, globex := newTenant(t), newTenant(t)
	h := newHandler(app, acme, globex)
	header := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, acme.Name+".hotspot.example") }
	}
	tests := map[string]struct {
		host, password string
		change         func(*http.Request)
		want           int
	}{
		"its own":                             {host: acme.Name + ".hotspot.example", password: password(acme.Name), want: http.StatusAccepted},
		"its own, with a port":                {host: acme.Name + ".hotspot.example:443", password: password(acme.Name), want: http.StatusAccepted},
		"its own, in capitals":                {host: strings.ToUpper(acme.Name) + ".Hotspot.Example", password: password(acme.Name), want: http.StatusAccepted},
		"another tenant's password":           {host: acme.Name + ".hotspot.example", password: password(globex.Name), want: http.StatusUnauthorized},
		"no password":                         {host: acme.Name + ".hotspot.example", want: http.StatusUnauthorized},
		"no user":                             {host: acme.Name + ".hotspot.example", change: func(r *http.Request) { r.Header.Del("Authorization") }, want: http.StatusUnauthorized},
		"a host of no tenant":                 {host: "nobody.hotspot.example", password: password(acme.Name), want: http.StatusUnauthorized},
		"a tenant without a password":         {host: "empty.hotspot.example", want: http.StatusUnauthorized},
		"a password without a tenant":         {host: "forgotten.hotspot.example", password: password("forgotten"), want: http.StatusNotFound},
		"the domain itself":                   {host: "hotspot.example", password: password(acme.Name), want: http.StatusUnauthorized},
		"another domain":                      {host: acme.Name + ".example", password: password(acme.Name), want: http.StatusUnauthorized},
		"no domain":                           {host: acme.Name, password: password(acme.Name), want: http.StatusUnauthorized},
		"a longer domain":                     {host: acme.Name + ".hotspot.example.org", password: password(acme.Name), want: http.StatusUnauthorized},
		"two labels":                          {host: "www." + acme.Name + ".hotspot.example", password: password(acme.Name), want: http.StatusUnauthorized},
		"a path":                              {host: "../" + acme.Name + ".hotspot.example", password: password(acme.Name), want: http.StatusUnauthorized},
		"a header that proxies set":           {host: "hotspot.example", password: password(acme.Name), change: header("X-Forwarded-Host"), want: http.StatusUnauthorized},
		"a header, and another tenant's host": {host: globex.Name + ".hotspot.example", password: password(acme.Name), change: header("X-Forwarded-Host"), want: http.StatusUnauthorized},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			change := tt.change
			if change == nil {
				change = func(*http.Request) {}
			}
			response := post(t, h, tt.host, tt.password, "8231", change)
			expectCode(t, response, tt.want)
			if want := errUnauthenticated.Error() + "\n"; tt.want == http.StatusUnauthorized && response.Body.String() != want {
				t.Errorf("it answers %q, want %q in all cases", response.Body, want)
			}
		})
	}
	if tjs := tenantJobs(t, globex); len(tjs) != 0 {
		t.Errorf("%d TenantJobs of the other tenant", len(tjs))
	}
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	tenant := newTenant(t)
	h := newHandler(app, tenant)
	for _, id := range []string{"pending", "0", "08231", "-1", "1.5", "8231a", "8231%0A", "%2e%2e", "a%2Fb", "%20", "1234567890123456789", "８"} {
		expectCode(t, deliver(t, h, tenant, id), http.StatusBadRequest)
	}
	get := func(r *http.Request) { r.Method = http.MethodGet }
	expectCode(t, post(t, h, tenant.Name+".hotspot.example", password(tenant.Name), "8231", get), http.StatusMethodNotAllowed)
	if tjs := tenantJobs(t, tenant); len(tjs) != 0 {
		t.Errorf("%d TenantJobs", len(tjs))
	}
}

// TestNames: every id that is accepted makes a name that the API server accepts, and a parameter that the template does.
func TestNames(t *testing.T) {
	content, err := os.ReadFile("../../../config/samples/templates/process-payment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	template := &v1alpha1.TenantJobTemplate{}
	if err := yaml.UnmarshalStrict(content, template); err != nil {
		t.Fatal(err)
	}
	tenant := &v1alpha1.Tenant{Status: v1alpha1.TenantStatus{Namespace: &v1alpha1.TenantNamespaceStatus{}}}
	scheduled := regexp.MustCompile(`-[0-9]{8}$`)
	for digits := 1; digits <= 18; digits++ {
		id := strings.Repeat("9", digits)
		tj := newTenantJob(tenant, id)
		if !paymentID.MatchString(id) || len(tj.Name) > 63 || scheduled.MatchString(tj.Name) {
			t.Errorf("%s is no name for payment %s", tj.Name, id)
		}
		if tj.Spec.TemplateRef.Name != template.Name {
			t.Errorf("it runs %s", tj.Spec.TemplateRef.Name)
		}
		for name, value := range tj.Spec.Parameters {
			i := slices.IndexFunc(template.Spec.Parameters, func(p v1alpha1.Parameter) bool { return p.Name == name })
			if i < 0 || !regexp.MustCompile(template.Spec.Parameters[i].Pattern).MatchString(string(value)) {
				t.Errorf("the template does not accept %s=%s", name, value)
			}
		}
	}
}

// TestStates: the answer when the tenant, or what has the name already, is not as usual.
func TestStates(t *testing.T) {
	t.Parallel()
	existing := func(change func(*v1alpha1.TenantJob)) func(*testing.T, *v1alpha1.Tenant) {
		return func(t *testing.T, tenant *v1alpha1.Tenant) {
			t.Helper()
			tj := newTenantJob(tenant, "8231")
			change(tj)
			create(t, tj)
		}
	}
	tests := map[string]struct {
		before func(*testing.T, *v1alpha1.Tenant)
		want   int
		// wantJobs is how many TenantJobs there are afterwards.
		wantJobs int
	}{
		"the tenant is suspended": {
			before: func(t *testing.T, tenant *v1alpha1.Tenant) {
				t.Helper()
				tenant.Spec.Suspend = new(true)
				if err := admin.Update(t.Context(), tenant); err != nil {
					t.Fatal(err)
				}
			},
			want: http.StatusAccepted, wantJobs: 1,
		},
		"the tenant has no namespace yet": {
			before: func(t *testing.T, tenant *v1alpha1.Tenant) {
				t.Helper()
				tenant.Status.Namespace = nil
				if err := admin.Status().Update(t.Context(), tenant); err != nil {
					t.Fatal(err)
				}
			},
			want: http.StatusServiceUnavailable,
		},
		"the tenant is being deleted": {
			before: func(t *testing.T, tenant *v1alpha1.Tenant) {
				t.Helper()
				tenant.Finalizers = []string{"example.com/held"}
				if err := admin.Update(t.Context(), tenant); err != nil {
					t.Fatal(err)
				}
				if err := admin.Delete(t.Context(), tenant); err != nil {
					t.Fatal(err)
				}
			},
			want: http.StatusNotFound,
		},
		"the namespace is being deleted": {
			before: func(t *testing.T, tenant *v1alpha1.Tenant) {
				t.Helper()
				namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.Status.Namespace.Name}}
				if err := admin.Delete(t.Context(), namespace); err != nil {
					t.Fatal(err)
				}
			},
			want: http.StatusServiceUnavailable,
		},
		"the namespace does not exist": {
			before: func(t *testing.T, tenant *v1alpha1.Tenant) {
				t.Helper()
				tenant.Status.Namespace.Name = "gone"
				if err := admin.Status().Update(t.Context(), tenant); err != nil {
					t.Fatal(err)
				}
			},
			want: http.StatusServiceUnavailable,
		},
		"somebody else has created the same": {
			before: existing(func(tj *v1alpha1.TenantJob) { tj.Labels = map[string]string{"tag.tenantry.dev/by": "hand"} }),
			want:   http.StatusAccepted, wantJobs: 1,
		},
		"it is being deleted": {
			before: func(t *testing.T, tenant *v1alpha1.Tenant) {
				t.Helper()
				tj := newTenantJob(tenant, "8231")
				tj.Finalizers = []string{"example.com/held"}
				create(t, tj)
				if err := admin.Delete(t.Context(), tj); err != nil {
					t.Fatal(err)
				}
			},
			want: http.StatusServiceUnavailable, wantJobs: 1,
		},
		"another template": {
			before: existing(func(tj *v1alpha1.TenantJob) { tj.Spec.TemplateRef.Name = "disconnect-user" }),
			want:   http.StatusConflict, wantJobs: 1,
		},
		"another tenant": {
			before: existing(func(tj *v1alpha1.TenantJob) { tj.Spec.TenantRef.Name = "another" }),
			want:   http.StatusConflict, wantJobs: 1,
		},
		"another value": {
			before: existing(func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters["paymentID"] = "1" }),
			want:   http.StatusConflict, wantJobs: 1,
		},
		"one more parameter": {
			before: existing(func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters["simulateFailure"] = "true" }),
			want:   http.StatusConflict, wantJobs: 1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := newTenant(t)
			tt.before(t, tenant)
			response := deliver(t, newHandler(app, tenant), tenant, "8231")
			expectCode(t, response, tt.want)
			expectRetryAfter(t, response, fmt.Sprint(retrySeconds))
			if tjs := tenantJobs(t, tenant); len(tjs) != tt.wantJobs {
				t.Errorf("%d TenantJobs, want %d", len(tjs), tt.wantJobs)
			}
		})
	}
}

// expectRetryAfter: an answer says when to try again if that can help.
func expectRetryAfter(t *testing.T, response *httptest.ResponseRecorder, seconds string) {
	t.Helper()
	want := ""
	if response.Code == http.StatusServiceUnavailable {
		want = seconds
	}
	if got := response.Header().Get("Retry-After"); got != want {
		t.Errorf("Retry-After is %q, want %q", got, want)
	}
}

// TestErrors: the answer when the API server does not do what it is asked for.
func TestErrors(t *testing.T) {
	t.Parallel()
	resource := schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "tenantjobs"}
	tests := map[string]struct {
		err       error
		want      int
		wantAfter string
	}{
		"overloaded":              {err: apierrors.NewTooManyRequests("too many requests", 3), want: http.StatusServiceUnavailable, wantAfter: "3"},
		"overloaded, for a while": {err: apierrors.NewTooManyRequestsError("too many requests"), want: http.StatusServiceUnavailable, wantAfter: "10"},
		"shutting down":           {err: apierrors.NewServiceUnavailable("shutting down"), want: http.StatusServiceUnavailable, wantAfter: "10"},
		"an internal error":       {err: apierrors.NewInternalError(errors.New("etcd has no leader")), want: http.StatusServiceUnavailable, wantAfter: "10"},
		"too slow":                {err: context.DeadlineExceeded, want: http.StatusServiceUnavailable, wantAfter: "10"},
		"not reachable":           {err: errors.New("connection refused"), want: http.StatusServiceUnavailable, wantAfter: "10"},
		"the quota was changed at the same time": {
			err:  apierrors.NewConflict(schema.GroupResource{Resource: "resourcequotas"}, "tenant-quota", errors.New("changed")),
			want: http.StatusServiceUnavailable, wantAfter: "10",
		},
		"the quota is full": {
			err:  apierrors.NewForbidden(resource, "x", errors.New("exceeded quota: tenant-quota")),
			want: http.StatusInternalServerError,
		},
		"the token is not accepted": {err: apierrors.NewUnauthorized("Unauthorized"), want: http.StatusInternalServerError},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := newTenant(t)
			for step, funcs := range map[string]interceptor.Funcs{
				"reading the Tenant": {Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
					return tt.err
				}},
				"creating": {Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return tt.err }},
			} {
				response := deliver(t, newHandler(interceptor.NewClient(app, funcs), tenant), tenant, "8231")
				expectCode(t, response, tt.want)
				expectRetryAfter(t, response, tt.wantAfter)
				if body := response.Body.String(); strings.Contains(body, tt.err.Error()) {
					t.Errorf("%s: the caller reads %q", step, body)
				}
			}
			if tjs := tenantJobs(t, tenant); len(tjs) != 0 {
				t.Errorf("%d TenantJobs", len(tjs))
			}
		})
	}
}

// TestTimeout: a provider has its answer although the API server gives none.
func TestTimeout(t *testing.T) {
	t.Parallel()
	tenant := newTenant(t)
	var limited bool
	expectCode(t, deliver(t, newHandler(interceptor.NewClient(app, interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			_, limited = ctx.Deadline()
			return context.DeadlineExceeded
		},
	}), tenant), tenant, "8231"), http.StatusServiceUnavailable)
	if !limited {
		t.Error("it waits for the API server as long as that takes")
	}
}

// TestWithoutRole: without its role the application can do nothing, and says so.
func TestWithoutRole(t *testing.T) {
	t.Parallel()
	tenant := newTenant(t)
	stranger, err := client.New(withToken(strangerToken), client.Options{Scheme: app.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	expectCode(t, deliver(t, newHandler(stranger, tenant), tenant, "8231"), http.StatusInternalServerError)
}

// TestRights: what the application's service account may do beside dispatching, and what it may not.
func TestRights(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tenant := newTenant(t)
	namespace := tenant.Status.Namespace.Name
	within := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: name} }
	secret := &corev1.Secret{ObjectMeta: within("database")}
	create(t, secret)
	pod := corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "example.com/app"}}}
	tj := newTenantJob(tenant, "8231")
	create(t, tj)

	for name, allowed := range map[string]func() error{
		"reading the TenantJob":  func() error { return app.Get(ctx, client.ObjectKeyFromObject(tj), &v1alpha1.TenantJob{}) },
		"listing all TenantJobs": func() error { return app.List(ctx, &v1alpha1.TenantJobList{}) },
		"listing the Tenants":    func() error { return app.List(ctx, &v1alpha1.TenantList{}) },
		"listing the templates":  func() error { return app.List(ctx, &v1alpha1.TenantJobTemplateList{}) },
		"cancelling it":          func() error { return patch(ctx, tj.DeepCopy(), `{"spec":{"cancel":true}}`) },
	} {
		if err := allowed(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, forbidden := range map[string]func() error{
		"reading a Secret":         func() error { return app.Get(ctx, client.ObjectKeyFromObject(secret), &corev1.Secret{}) },
		"listing Secrets":          func() error { return app.List(ctx, &corev1.SecretList{}, client.InNamespace(namespace)) },
		"creating a Secret":        func() error { return app.Create(ctx, &corev1.Secret{ObjectMeta: within("x")}) },
		"reading pods":             func() error { return app.List(ctx, &corev1.PodList{}, client.InNamespace(namespace)) },
		"creating a pod":           func() error { return app.Create(ctx, &corev1.Pod{ObjectMeta: within("x"), Spec: pod}) },
		"reading Jobs":             func() error { return app.List(ctx, &batchv1.JobList{}, client.InNamespace(namespace)) },
		"creating a Job":           func() error { return app.Create(ctx, newJob(within("x"), pod)) },
		"creating a Job elsewhere": func() error { return app.Create(ctx, newJob(metav1.ObjectMeta{Namespace: "hotspot", Name: "x"}, pod)) },
		"writing the status":       func() error { return app.Status().Update(ctx, tj.DeepCopy()) },
		"suspending the Tenant":    func() error { return patch(ctx, tenant.DeepCopy(), `{"spec":{"suspend":true}}`) },
		"creating a Tenant": func() error {
			return app.Create(ctx, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
		},
		"creating a fan-out": func() error {
			return app.Create(ctx, &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: v1alpha1.TenantFanOutSpec{
				TemplateRef: v1alpha1.LabelReference{Name: "process-payment"}, Tenants: v1alpha1.TenantSelection{All: new(true)},
			}})
		},
	} {
		if err := forbidden(); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := app.Delete(ctx, tj); err != nil {
		t.Errorf("deleting it: %v", err)
	}
	foreign := newTenantJob(tenant, "8231")
	foreign.Spec.TenantRef.Name = newTenant(t).Name
	if err := app.Create(ctx, foreign); !isRefusedByPolicy(err) {
		t.Errorf("creating one of another tenant in the namespace: %v", err)
	}
}

func newJob(meta metav1.ObjectMeta, pod corev1.PodSpec) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: pod}}}
}

func patch(ctx context.Context, obj client.Object, change string) error {
	return app.Patch(ctx, obj, client.RawPatch("application/merge-patch+json", []byte(change)))
}
