-- A shop: who bought what. Every figure follows from the row numbers.
create type order_status as enum ('new', 'paid', 'shipped', 'returned');
create table customers (
    id bigint generated always as identity primary key,
    name text not null,
    email text not null unique,
    country text not null,
    is_active boolean not null default true,
    signed_up_on date not null
);
create table categories (id serial primary key, name text not null unique);
create table products (
    id serial primary key,
    name text not null,
    category_id int not null references categories,
    unit_price numeric(10, 2) not null,
    stock int
);
create table orders (
    id bigint generated always as identity primary key,
    customer_id bigint not null references customers,
    status order_status not null,
    channel text check (channel in ('web', 'store', 'phone')),
    placed_at timestamptz not null,
    updated_at timestamptz not null,
    total_amount numeric(12, 2) not null
);
create table order_items (
    order_id bigint references orders,
    line_no int,
    product_id int not null references products,
    quantity int not null,
    primary key (order_id, line_no)
);
comment on table orders is 'What customers ordered';
comment on column orders.total_amount is 'With tax. Synonyms: revenue, turnover';
comment on column customers.signed_up_on is 'First visit';

insert into customers (name, email, country, is_active, signed_up_on)
select 'Customer ' || chr(64 + n % 26 + 1) || n, n || '@example.org',
       (array['Germany', 'France', 'Poland', 'Spain'])[1 + n % 4], n % 5 <> 0, date '2025-01-01' + n
from generate_series(1, 80) n;
insert into categories (name) values ('Garden'), ('Kitchen'), ('Office');
insert into products (name, category_id, unit_price, stock)
select (array['Spade', 'Rake', 'Kettle', 'Pan', 'Stapler', 'Lamp'])[n], 1 + (n - 1) / 2, 4.25 * n, 10 * n
from generate_series(1, 6) n;
insert into orders (customer_id, status, channel, placed_at, updated_at, total_amount)
select 1 + (n * 7) % 75, (array['new', 'paid', 'shipped', 'returned']::order_status[])[1 + n % 4],
       (array['web', 'store', 'phone'])[1 + n % 3],
       timestamptz '2025-12-01 08:00Z' + n * interval '5 hours', timestamptz '2026-03-01Z', 10 + (n * 13) % 190 + 0.25
from generate_series(1, 560) n;
insert into order_items (order_id, line_no, product_id, quantity)
select o, l, 1 + (o * l + l) % 6, 1 + (o + l) % 4
from generate_series(1, 560) o, generate_series(1, 2) l;
