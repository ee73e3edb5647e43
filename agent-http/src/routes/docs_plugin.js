// Asks for the description again with the token that was typed in, so that it has the scripts that the token sees. The
// token stays in this page's memory.
let token = null;

const withToken = (request) => {
  if (request.loadSpec && token) {
    request.headers.Authorization = `Bearer ${token}`;
  }
  return request;
};

const ScriptsOfToken = () => ({
  statePlugins: {
    auth: {
      wrapActions: {
        authorize: (original, system) => (given) => {
          token = given.token ? given.token.value : null;
          const done = original(given);
          system.specActions.download();
          return done;
        },
        logout: (original, system) => (names) => {
          token = null;
          const done = original(names);
          system.specActions.download();
          return done;
        },
      },
    },
  },
});
