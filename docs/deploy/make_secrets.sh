#!/bin/sh
# Random passwords, in files that only this user can read: make_secrets.sh FOLDER. Where one is there, nothing is written.
set -eu
folder=${1:?usage: make_secrets.sh FOLDER}
umask 077
mkdir -p "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# Files of a set know each other's passwords.
for file in postgres server worker minio; do
    if [ -e "$folder/$file.env" ]; then
        echo "$folder/$file.env: is there already; nothing was written" >&2
        exit 1
    fi
done
database=$(random)
server=$(random)
keys=$(random)

cat > "$folder/postgres.env" <<END
POSTGRES_PASSWORD=$database
END
cat > "$folder/server.env" <<END
PREFECT_SERVER_DATABASE_PASSWORD=$database
PREFECT_SERVER_API_AUTH_STRING=admin:$server
PREFECT_API_AUTH_STRING=admin:$server
PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS=http://127.0.0.1:4200
END
cat > "$folder/worker.env" <<END
PREFECT_API_AUTH_STRING=admin:$server
AWS_ENDPOINT_URL=http://minio:9000
AWS_ACCESS_KEY_ID=pseudomask
AWS_SECRET_ACCESS_KEY=$keys
AWS_DEFAULT_REGION=us-east-1
END
cat > "$folder/minio.env" <<END
MINIO_ROOT_USER=pseudomask
MINIO_ROOT_PASSWORD=$keys
END
echo "$folder: postgres.env, server.env, worker.env and minio.env were written"
