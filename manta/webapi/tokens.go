package webapi

import "net/http"

// createToken answers with a token for the caller, who must be somebody.
func createToken(r *Request) error {
	if err := r.Authorize(); err != nil {
		return err
	}
	token, err := r.s.cfg.Identity.MintToken(r.Caller, r.Owner, false)
	if err != nil {
		return err
	}
	return r.JSON(http.StatusCreated, struct {
		Token string `json:"token"`
	}{token})
}
