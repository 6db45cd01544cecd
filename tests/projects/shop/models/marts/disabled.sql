{{ config(enabled=var('with_disabled', false)) }}
select 1 as id
