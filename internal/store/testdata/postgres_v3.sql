-- A database of schema version 3 with a survey under way, as pg_dump --inserts has it.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.batch (
    id bigint NOT NULL,
    chunk bigint NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    probe text NOT NULL COLLATE pg_catalog."C",
    late smallint NOT NULL,
    body bytea NOT NULL,
    spool text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    address text DEFAULT ''::text NOT NULL
);
ALTER TABLE ONLY public.batch ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE public.batch ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.certificate (
    serial text NOT NULL COLLATE pg_catalog."C",
    kind smallint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    key_hash bytea NOT NULL,
    state smallint NOT NULL,
    issued bigint,
    expires bigint,
    superseded bigint,
    der bytea NOT NULL
);
CREATE TABLE public.chunk (
    id bigint NOT NULL,
    survey text NOT NULL COLLATE pg_catalog."C",
    chunk bigint NOT NULL,
    source bigint NOT NULL,
    size integer NOT NULL,
    phase smallint NOT NULL,
    written boolean DEFAULT false NOT NULL,
    holder text COLLATE pg_catalog."C",
    deadline timestamp with time zone,
    lease text,
    items bytea,
    copy bigint DEFAULT 0 NOT NULL,
    pin text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    shared text COLLATE pg_catalog."C",
    writer text COLLATE pg_catalog."C",
    writing timestamp with time zone
)
WITH (fillfactor='50');
ALTER TABLE public.chunk ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.chunk_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.fleet (
    one integer NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT fleet_one_check CHECK ((one = 1))
);
CREATE TABLE public.frozen (
    one integer NOT NULL,
    until timestamp with time zone NOT NULL,
    CONSTRAINT frozen_one_check CHECK ((one = 1))
);
CREATE TABLE public.list (
    id text NOT NULL COLLATE pg_catalog."C",
    targets bigint NOT NULL,
    chunk_size integer NOT NULL
);
CREATE TABLE public.member (
    kind smallint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    created bigint,
    serial text NOT NULL COLLATE pg_catalog."C",
    banned bigint,
    ban_reason text NOT NULL,
    identity_key bytea,
    token text NOT NULL COLLATE pg_catalog."C",
    labels text NOT NULL,
    recoveries bigint NOT NULL,
    recoveries_today bigint NOT NULL,
    recovery_day bigint
);
CREATE TABLE public.probe (
    name text NOT NULL COLLATE pg_catalog."C",
    version text NOT NULL,
    host bytea NOT NULL,
    drained boolean DEFAULT false NOT NULL,
    rate double precision DEFAULT 0 NOT NULL
);
CREATE TABLE public.probe_event (
    id bigint NOT NULL,
    probe text NOT NULL COLLATE pg_catalog."C",
    spool text NOT NULL COLLATE pg_catalog."C",
    sequence bigint NOT NULL,
    body bytea NOT NULL
);
ALTER TABLE public.probe_event ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.probe_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.requeued (
    survey text NOT NULL COLLATE pg_catalog."C",
    n bigint NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.schema_version (
    version integer NOT NULL
);
CREATE TABLE public.session (
    probe text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    instance text NOT NULL COLLATE pg_catalog."C",
    hostname text NOT NULL,
    controller text NOT NULL COLLATE pg_catalog."C",
    since timestamp with time zone NOT NULL,
    heard timestamp with time zone NOT NULL,
    stale interval NOT NULL,
    state bytea NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.spool (
    id text NOT NULL COLLATE pg_catalog."C",
    through bigint NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.survey (
    id text NOT NULL COLLATE pg_catalog."C",
    request text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    list text NOT NULL COLLATE pg_catalog."C",
    spec bytea NOT NULL,
    phase smallint NOT NULL,
    cancel boolean DEFAULT false NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    created timestamp with time zone NOT NULL,
    ended timestamp with time zone,
    mode smallint DEFAULT 1 NOT NULL,
    copies bigint DEFAULT 1 NOT NULL,
    probes text[] DEFAULT '{}'::text[] NOT NULL COLLATE pg_catalog."C",
    paused boolean DEFAULT false NOT NULL
);
CREATE TABLE public.survey_probe (
    survey text NOT NULL COLLATE pg_catalog."C",
    probe text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.taken (
    survey text NOT NULL COLLATE pg_catalog."C",
    source bigint NOT NULL,
    probe text NOT NULL COLLATE pg_catalog."C",
    copy bigint NOT NULL
);
CREATE TABLE public.tally (
    survey text NOT NULL COLLATE pg_catalog."C",
    item smallint NOT NULL,
    n bigint NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.token (
    id text NOT NULL COLLATE pg_catalog."C",
    secret_hash bytea NOT NULL,
    uses bigint NOT NULL,
    used bigint NOT NULL,
    labels text NOT NULL,
    prefix text NOT NULL,
    created bigint,
    expires bigint,
    revoked bigint
);
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (1, 5, 1, 0, 'p', 0, '\x6669727374', '', '');
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (2, 5, 1, 1, 'p', 0, '\x7365636f6e6400', '', '');
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (3, 6, 1, 0, 'p', 1, '\x6c617465', '', '');
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (4, 6, 2, 0, 'q', 0, '\x7468697264', '', '');
INSERT INTO public.batch OVERRIDING SYSTEM VALUE VALUES (5, 5, 1, 7, 'p', 2, '\x6173696465', 's', '192.0.2.1');
INSERT INTO public.chunk OVERRIDING SYSTEM VALUE VALUES (1, 'failed', 0, 0, 3, 1, false, NULL, NULL, NULL, NULL, 0, '', NULL, NULL, NULL);
INSERT INTO public.chunk OVERRIDING SYSTEM VALUE VALUES (2, 'failed', 1, 1, 3, 1, false, NULL, NULL, NULL, NULL, 0, '', NULL, NULL, NULL);
INSERT INTO public.chunk OVERRIDING SYSTEM VALUE VALUES (3, 'failed', 2, 2, 3, 1, false, NULL, NULL, NULL, NULL, 0, '', NULL, NULL, NULL);
INSERT INTO public.chunk OVERRIDING SYSTEM VALUE VALUES (4, 'failed', 3, 3, 2, 1, false, NULL, NULL, NULL, NULL, 0, '', NULL, NULL, NULL);
INSERT INTO public.chunk OVERRIDING SYSTEM VALUE VALUES (8, 'running', 3, 3, 2, 1, false, NULL, NULL, NULL, NULL, 0, '', NULL, NULL, NULL);
INSERT INTO public.chunk OVERRIDING SYSTEM VALUE VALUES (5, 'running', 0, 0, 3, 5, false, NULL, NULL, '{"epoch":1,"instance":"1","holders":["p"]}', '\x212121', 0, '', NULL, NULL, NULL);
INSERT INTO public.chunk OVERRIDING SYSTEM VALUE VALUES (7, 'running', 2, 2, 3, 2, false, 'q', '2026-11-21 00:00:44+00', '{"epoch":1,"probe":"q","instance":"1","offers":1,"holders":["q"]}', '\x020202', 0, '', NULL, NULL, NULL);
INSERT INTO public.chunk OVERRIDING SYSTEM VALUE VALUES (6, 'running', 1, 1, 3, 3, false, 'q', '2026-11-21 00:00:57+00', '{"epoch":2,"probe":"q","instance":"1","attempt":1,"late":{"0":{"Epoch":1,"Result":33}},"holders":["p","q"]}', '\x032103', 0, '', NULL, NULL, NULL);
INSERT INTO public.fleet VALUES (1, 'fleet');
INSERT INTO public.list VALUES ('list1', 11, 3);
INSERT INTO public.member VALUES (2, 'p', 1795219201000000, '01', NULL, '', '\x0102', 't', '{"region":"fra"}', 0, 0, NULL);
INSERT INTO public.member VALUES (2, 'q', 1795219202000000, '', 1795219210000000, 'lost', NULL, 't', '{}', 0, 0, NULL);
INSERT INTO public.probe VALUES ('p', '0.1', '\x1204362e31382001', false, 0);
INSERT INTO public.probe VALUES ('q', '0.1', '\x1204362e31382001', false, 0);
INSERT INTO public.schema_version VALUES (3);
INSERT INTO public.survey VALUES ('failed', 'request of failed', 'it''s failed', 'list1', '\x08022807', 5, false, 'no room', '2026-11-21 00:00:01+00', '2026-11-21 00:00:03+00', 1, 1, '{}', false);
INSERT INTO public.survey VALUES ('running', 'request of running', 'it''s running', 'list1', '\x080228075001', 2, false, '', '2026-11-21 00:00:04+00', NULL, 1, 1, '{}', false);
INSERT INTO public.survey_probe VALUES ('running', 'p');
INSERT INTO public.survey_probe VALUES ('running', 'q');
INSERT INTO public.tally VALUES ('failed', 0, 11);
INSERT INTO public.tally VALUES ('running', 0, 7);
INSERT INTO public.tally VALUES ('running', 33, 4);
INSERT INTO public.token VALUES ('t', '\xabababababababababababababababababababababababababababababababab', 2, 1, '{"region":"fra"}', '', 1795219200000000, 1795305600000000, NULL);
SELECT pg_catalog.setval('public.batch_id_seq', 5, true);
SELECT pg_catalog.setval('public.chunk_id_seq', 8, true);
SELECT pg_catalog.setval('public.probe_event_id_seq', 1, false);
ALTER TABLE ONLY public.batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (chunk, epoch, spool, sequence);
ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_key_hash_key UNIQUE (key_hash);
ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_pkey PRIMARY KEY (serial);
ALTER TABLE ONLY public.chunk
    ADD CONSTRAINT chunk_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.chunk
    ADD CONSTRAINT chunk_survey_chunk_key UNIQUE (survey, chunk);
ALTER TABLE ONLY public.fleet
    ADD CONSTRAINT fleet_pkey PRIMARY KEY (one);
ALTER TABLE ONLY public.frozen
    ADD CONSTRAINT frozen_pkey PRIMARY KEY (one);
ALTER TABLE ONLY public.list
    ADD CONSTRAINT list_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.member
    ADD CONSTRAINT member_identity_key_key UNIQUE (identity_key);
ALTER TABLE ONLY public.member
    ADD CONSTRAINT member_pkey PRIMARY KEY (kind, name);
ALTER TABLE ONLY public.probe_event
    ADD CONSTRAINT probe_event_pkey PRIMARY KEY (probe, spool, sequence);
ALTER TABLE ONLY public.probe
    ADD CONSTRAINT probe_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.requeued
    ADD CONSTRAINT requeued_pkey PRIMARY KEY (survey);
ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (probe);
ALTER TABLE ONLY public.spool
    ADD CONSTRAINT spool_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.survey
    ADD CONSTRAINT survey_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.survey_probe
    ADD CONSTRAINT survey_probe_pkey PRIMARY KEY (survey, probe);
ALTER TABLE ONLY public.survey
    ADD CONSTRAINT survey_request_key UNIQUE (request);
ALTER TABLE ONLY public.taken
    ADD CONSTRAINT taken_pkey PRIMARY KEY (survey, source, probe);
ALTER TABLE ONLY public.tally
    ADD CONSTRAINT tally_pkey PRIMARY KEY (survey, item);
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (id);
CREATE INDEX chunk_holder ON public.chunk USING btree (holder) WHERE (holder IS NOT NULL);
CREATE INDEX chunk_live ON public.chunk USING btree (id) WHERE (phase = ANY (ARRAY[2, 3, 4]));
CREATE INDEX chunk_over ON public.chunk USING btree (survey, chunk) WHERE ((NOT written) AND (phase >= 5));
CREATE INDEX chunk_pending ON public.chunk USING btree (survey, pin, chunk) WHERE (phase = 1);
CREATE INDEX chunk_shared ON public.chunk USING btree (shared, chunk) WHERE ((phase = 1) AND (shared IS NOT NULL));
CREATE INDEX chunk_unwritten ON public.chunk USING btree (survey, chunk) WHERE (NOT written);
CREATE INDEX probe_event_order ON public.probe_event USING btree (probe, id);
CREATE INDEX survey_running ON public.survey USING btree (created, id) WHERE (phase = 2);
ALTER TABLE ONLY public.survey
    ADD CONSTRAINT survey_list_fkey FOREIGN KEY (list) REFERENCES public.list(id);
