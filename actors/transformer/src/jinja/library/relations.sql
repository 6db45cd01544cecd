{# What macros of projects and packages call of dbt's own: introspection, and small statements. #}

{% macro default__get_columns_in_relation(relation) -%}
    {{ return(adapter.get_columns_in_relation(relation)) }}
{%- endmacro %}

{% macro default__get_empty_subquery_sql(select_sql, select_sql_header=none) %}
    {%- if select_sql_header is not none -%}{{ select_sql_header }}{%- endif -%}
    select * from (
        {{ select_sql }}
    ) as __dbt_sbq
    where false
    limit 0
{% endmacro %}

{% macro default__get_columns_in_query(select_sql) -%}
    {{ return(run_query(get_empty_subquery_sql(select_sql)).columns | map(attribute='name') | list) }}
{%- endmacro %}

{% macro get_column_schema_from_query(select_sql, select_sql_header=none) -%}
    {{ return(adapter.get_column_schema_from_query(get_empty_subquery_sql(select_sql, select_sql_header))) }}
{%- endmacro %}

{%- macro get_list_of_column_names(columns) -%}
    {{ return(columns | map(attribute='name') | list) }}
{%- endmacro %}

{% macro get_quoted_csv(column_names) -%}
    {%- set quoted = [] -%}
    {%- for name in column_names -%}{%- do quoted.append(adapter.quote(name)) -%}{%- endfor -%}
    {{ return(quoted | join(', ')) }}
{%- endmacro %}

{% macro load_cached_relation(relation) -%}
    {{ return(adapter.get_relation(database=relation.database, schema=relation.schema, identifier=relation.identifier)) }}
{%- endmacro %}
{% macro load_relation(relation) -%}{{ return(load_cached_relation(relation)) }}{%- endmacro %}

{% macro default__get_or_create_relation(database, schema, identifier, type) -%}
    {%- set found = adapter.get_relation(database=database, schema=schema, identifier=identifier) -%}
    {%- if found -%}{{ return([true, found]) }}{%- endif -%}
    {{ return([false, api.Relation.create(database=database, schema=schema, identifier=identifier, type=type)]) }}
{%- endmacro %}

{% macro default__make_temp_relation(base_relation, suffix='__dbt_tmp') -%}
    {{ return(base_relation.incorporate(path={'identifier': base_relation.identifier ~ suffix})) }}
{%- endmacro %}
{% macro default__make_intermediate_relation(base_relation, suffix='__dbt_tmp') -%}
    {{ return(dbt.default__make_temp_relation(base_relation, suffix)) }}
{%- endmacro %}
{% macro default__make_backup_relation(base_relation, backup_relation_type, suffix='__dbt_backup') -%}
    {{ return(base_relation.incorporate(path={'identifier': base_relation.identifier ~ suffix}, type=backup_relation_type)) }}
{%- endmacro %}

{% macro default__create_schema(relation) -%}
    {%- do run_query('create schema if not exists ' ~ relation.without_identifier()) -%}
{%- endmacro %}
{% macro default__drop_schema(relation) -%}
    {%- do run_query('drop schema if exists ' ~ relation.without_identifier() ~ ' cascade') -%}
{%- endmacro %}
{% macro default__drop_relation(relation) -%}
    {%- do adapter.drop_relation(relation) -%}
{%- endmacro %}
{% macro drop_relation_if_exists(relation) -%}
    {%- if relation is not none -%}{%- do adapter.drop_relation(relation) -%}{%- endif -%}
{%- endmacro %}
{% macro default__rename_relation(from_relation, to_relation) -%}
    {%- do adapter.rename_relation(from_relation, to_relation) -%}
{%- endmacro %}
{% macro default__truncate_relation(relation) -%}
    {%- do run_query('truncate table ' ~ relation.render()) -%}
{%- endmacro %}

{% macro default__alter_column_type(relation, column_name, new_column_type) -%}
    {%- do run_query('alter table ' ~ relation.render() ~ ' alter column ' ~ adapter.quote(column_name) ~ ' type ' ~ new_column_type) -%}
{%- endmacro %}
{% macro default__alter_relation_add_remove_columns(relation, add_columns=none, remove_columns=none) -%}
    {%- set changes = [] -%}
    {%- for column in add_columns or [] -%}{%- do changes.append('add column ' ~ column.quoted ~ ' ' ~ column.data_type) -%}{%- endfor -%}
    {%- for column in remove_columns or [] -%}{%- do changes.append('drop column ' ~ column.quoted) -%}{%- endfor -%}
    {%- if changes -%}
        {%- do run_query('alter ' ~ relation.type ~ ' ' ~ relation.render() ~ ' ' ~ changes | join(', ')) -%}
    {%- endif -%}
{%- endmacro %}
{% macro diff_columns(source_columns, target_columns) -%}
    {%- set known = target_columns | map(attribute='column') | list -%}
    {%- set missing = [] -%}
    {%- for column in source_columns if column.column not in known -%}{%- do missing.append(column) -%}{%- endfor -%}
    {{ return(missing) }}
{%- endmacro %}

{% macro default__information_schema_name(database) -%}
    {%- if database -%}{{ adapter.quote(database) }}.{%- endif -%}information_schema
{%- endmacro %}
{% macro default__list_schemas(database) -%}
    {{ return(run_query('select distinct nspname from pg_namespace')) }}
{%- endmacro %}
{% macro default__check_schema_exists(information_schema, schema) -%}
    {{ return(run_query("select count(*) from pg_namespace where nspname = '" ~ schema ~ "'")) }}
{%- endmacro %}

{% macro default__should_full_refresh() -%}
    {%- set wanted = config.get('full_refresh') -%}
    {{ return(flags.FULL_REFRESH if wanted is none else wanted) }}
{%- endmacro %}
{% macro default__should_store_failures() -%}
    {%- set wanted = config.get('store_failures') -%}
    {{ return(flags.STORE_FAILURES if wanted is none else wanted) }}
{%- endmacro %}
{% macro set_sql_header(config) -%}{{ config.set('sql_header', caller()) }}{%- endmacro %}

{% macro default__get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if where -%}
        {%- set filtered -%}
            (select * from {{ relation }} where {{ where }}) dbt_subquery
        {%- endset -%}
        {{ return(filtered) }}
    {%- else -%}
        {{ return(relation) }}
    {%- endif -%}
{%- endmacro %}

{% macro default__get_show_sql(compiled_code, sql_header=none, limit=none) -%}
    {%- if sql_header -%}{{ sql_header }}{%- endif -%}
    {{ get_limit_subquery_sql(compiled_code, limit) }}
{%- endmacro %}
{% macro default__get_limit_sql(sql, limit) -%}
    {{ sql }}
    {% if limit is not none -%}limit {{ limit }}{%- endif -%}
{%- endmacro %}
{% macro default__get_limit_subquery_sql(sql, limit) -%}
    {{ get_limit_sql(sql, limit) }}
{%- endmacro %}

{% macro default__validate_sql(sql) -%}
    {{ return(run_query('explain ' ~ sql)) }}
{%- endmacro %}

{% macro run_hooks(hooks, inside_transaction=True) -%}
    {%- for hook in hooks -%}{%- do run_query(render(hook.get('sql'))) -%}{%- endfor -%}
{%- endmacro %}
{% macro before_begin(sql) -%}{{ return({'sql': sql, 'transaction': false} | tojson) }}{%- endmacro %}
{% macro in_transaction(sql) -%}{{ return({'sql': sql, 'transaction': true} | tojson) }}{%- endmacro %}
{% macro after_commit(sql) -%}{{ return({'sql': sql, 'transaction': false} | tojson) }}{%- endmacro %}
{% macro make_hook_config(sql, inside_transaction) -%}
    {{ return({'sql': sql, 'transaction': inside_transaction} | tojson) }}
{%- endmacro %}

{% macro default__drop_schema_named(schema_name) -%}
    {%- do adapter.drop_schema(api.Relation.create(schema=schema_name)) -%}
{%- endmacro %}

{% macro default__create_view_as(relation, sql) -%}
    create view {{ relation }} as (
        {{ sql }}
    );
{%- endmacro %}
{% macro default__get_create_view_as_sql(relation, sql) -%}{{ return(create_view_as(relation, sql)) }}{%- endmacro %}
{% macro default__create_table_as(temporary, relation, compiled_code) -%}
    create {% if temporary %}temporary {% endif %}table {{ relation.include(database=not temporary, schema=not temporary) }} as (
        {{ compiled_code }}
    );
{%- endmacro %}
{% macro default__get_create_table_as_sql(temporary, relation, sql) -%}
    {{ return(create_table_as(temporary, relation, sql)) }}
{%- endmacro %}
